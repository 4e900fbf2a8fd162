import { systemClock } from '../../../lib/core/runtime/clock.js';
import { Counters } from '../../../lib/core/runtime/reporting.js';
import type { OutboundMessage, OutboundReply } from '../../../lib/core/port/message.js';
import type { SubscribedPattern, SubscriptionSpec } from '../../../lib/core/port/driver.js';
import { patternFromString } from '../../../lib/core/message/pattern.js';
import type { DriverEnvironment } from '../../../lib/nest/bootstrap/transport-definition.js';

export const environment: DriverEnvironment = {
  name: 'main',
  clock: systemClock,
  logger: { debug: () => {}, log: () => {}, warn: () => {}, error: () => {} },
  counters: new Counters(),
  shared: new Map(),
};

export function subscribed(text: string, handlerNames = ['A.b']): SubscribedPattern {
  return { ...patternFromString(text), order: 'key', delivery: 'at-least-once', handlerNames };
}

export function specOf(...patterns: SubscribedPattern[]): SubscriptionSpec {
  return {
    id: 'main',
    patterns,
    concurrency: 1,
    redeliverDelaysMs: [100],
    maxHoldTime: { handler: 'A.b', waitMs: 0, attempts: 1, timeoutMs: 0 },
    deadLetterTargets: [],
  };
}

export function outbound(pattern: string, fields: Partial<OutboundMessage> = {}): OutboundMessage {
  return {
    pattern,
    body: Buffer.from('{}'),
    headers: {},
    contentType: 'application/json',
    messageId: 'm1',
    timestamp: 1_000,
    ...fields,
  };
}

export function replyOf(kind: OutboundReply['kind']): OutboundReply {
  return {
    kind,
    endsStream: false,
    correlationId: 'c1',
    body: Buffer.alloc(0),
    contentType: 'application/json',
    headers: {},
  };
}
