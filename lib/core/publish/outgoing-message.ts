import { randomUUID } from 'node:crypto';
import type { StorkClock } from '../runtime/clock.js';
import type { Codecs } from '../message/codec.js';
import { currentCorrelation } from './correlation-context.js';
import type { Capabilities, OptionalMessageOption } from '../port/driver.js';
import { messageOf, StorkConfigError, type ConfigProblem } from '../runtime/errors.js';
import {
  copyHeaders,
  headerNames,
  latestTimeMs,
  reservedPrefix,
  timeText,
  type MessageHeaders,
  type HeaderValue,
} from '../message/headers.js';
import type { MessageDestination, OutboundMessage } from '../port/message.js';
import { isPatternLength, maxPatternBytes } from '../message/pattern.js';
import { printable } from '../message/text.js';

/**
 * What may be said about one message. An option that the transport's broker cannot honour is refused by name.
 *
 * @publicApi
 */
export interface MessageOptions {
  /** Headers of your own; names that begin with `stork-` are refused. */
  readonly headers?: MessageHeaders;
  /** Messages of one key are handled in order. */
  readonly key?: string;
  /** Identifies the message for good, also for recognising duplicates. @defaultValue a fresh UUID */
  readonly messageId?: string;
  /** Of a request its own id, which no other pending request may have (default: fresh); of an event its conversation. */
  readonly correlationId?: string;
  /** How long a request waits for its reply, or for the next item of a streamed one. @defaultValue 30 000 */
  readonly timeoutMs?: number;
  /** The broker drops the message if nobody has taken it by then; with a dead letter queue it goes there. */
  readonly expiresInMs?: number;
  /** The broker holds the message back so long. */
  readonly delayMs?: number;
  /** False: the broker may lose it in a crash. @defaultValue true */
  readonly persistent?: boolean;
  /** Higher goes first; 0 to 255. */
  readonly priority?: number;
  readonly partition?: number;
  /** @defaultValue the transport's `defaultContentType`; `application/octet-stream` for bytes */
  readonly contentType?: string;
  /** When it happened, in milliseconds since the epoch. @defaultValue now */
  readonly timestamp?: number;
  readonly appId?: string;
  /** Gives the call up: a request stops waiting. What was sent stays sent. */
  readonly signal?: AbortSignal;
  /** Instead of the transport's own destination. */
  readonly to?: MessageDestination;
}

export interface OutboundScope {
  readonly transport: string;
  readonly capabilities: Capabilities;
  readonly codecs: Codecs;
  readonly clock: StorkClock;
}

/** What makes a message a request. */
export interface RequestParts {
  readonly id: string;
  readonly timeoutMs: number;
}

/**
 * Checks and encodes what a caller wants to send.
 *
 * @throws StorkConfigError naming each option that is wrong, or the value that cannot be encoded
 */
export function buildMessage(
  pattern: string,
  data: unknown,
  options: MessageOptions,
  scope: OutboundScope,
  request?: RequestParts,
): OutboundMessage {
  const problems = checkMessage(pattern, options, scope);
  if (problems.length > 0) throw new StorkConfigError(problems);
  const { body, contentType } = encode(pattern, data, options.contentType, scope);
  const now = scope.clock.now();
  const headers = copyHeaders(options.headers);
  if (request !== undefined) headers[headerNames.deadline] = timeText(now + request.timeoutMs);
  else if (options.correlationId !== undefined) headers[headerNames.correlationId] = options.correlationId;
  continueCorrelation(headers);
  return {
    pattern,
    body,
    headers,
    contentType,
    messageId: options.messageId ?? randomUUID(),
    correlationId: request?.id ?? options.correlationId,
    key: options.key,
    timestamp: options.timestamp ?? now,
    to: options.to,
    persistent: options.persistent,
    expiresInMs: options.expiresInMs,
    delayMs: options.delayMs,
    priority: options.priority,
    partition: options.partition,
    appId: options.appId,
  };
}

/** What a handler sends belongs to what it handles, unless its caller said to which conversation. */
function continueCorrelation(headers: Record<string, HeaderValue>): void {
  const correlation = currentCorrelation();
  if (correlation === undefined) return;
  const { correlationId, messageId } = correlation;
  if (correlationId !== undefined) headers[headerNames.correlationId] ??= correlationId;
  if (messageId !== undefined) headers[headerNames.causationId] = messageId;
}

function encode(pattern: string, data: unknown, contentType: string | undefined, scope: OutboundScope) {
  try {
    return scope.codecs.encode(data, contentType);
  } catch (error) {
    throw new StorkConfigError(
      `the data for pattern ${JSON.stringify(pattern)} cannot be encoded: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}

/** Said by a caller who says nothing: there is nothing to check. */
export const noOptions: MessageOptions = {};

/** What a broker's 32-bit time to live holds, 49 days. */
const longestMs = 2 ** 32 - 1;

/** Every option of a message: a misspelt one must not be taken in silence. */
const optionNames: Readonly<Record<keyof MessageOptions, true>> = {
  headers: true,
  key: true,
  messageId: true,
  correlationId: true,
  timeoutMs: true,
  expiresInMs: true,
  delayMs: true,
  persistent: true,
  priority: true,
  partition: true,
  contentType: true,
  timestamp: true,
  appId: true,
  signal: true,
  to: true,
};

const optional: readonly OptionalMessageOption[] = [
  'delayMs',
  'expiresInMs',
  'priority',
  'partition',
  'persistent',
  'appId',
];

function checkMessage(pattern: string, options: MessageOptions, scope: OutboundScope): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const expect = (holds: boolean, name: string, expected: string, given: unknown): void => {
    if (!holds) problems.push({ name, expected, given: printable(given) });
  };
  expect(
    typeof pattern === 'string' && isPatternLength(pattern),
    'pattern',
    `1 to ${maxPatternBytes} bytes`,
    pattern,
  );
  if (options === noOptions) return problems;
  for (const name of optional) {
    const honoured = options[name] === undefined || scope.capabilities.messageOptions.has(name);
    expect(
      honoured,
      name,
      `nothing: the transport ${JSON.stringify(scope.transport)} cannot honour it`,
      options[name],
    );
  }
  expectKinds(options, expect);
  for (const name of Object.keys(options))
    expect(Object.hasOwn(optionNames, name), name, 'no such option', name);
  if (options.to !== undefined) expectDestination(options.to, scope, expect);
  for (const name of Object.keys(options.headers ?? {})) {
    expect(
      !name.startsWith(reservedPrefix),
      `headers.${name}`,
      `no name that begins with ${reservedPrefix}`,
      name,
    );
  }
  return problems;
}

type Expect = (holds: boolean, name: string, expected: string, given: unknown) => void;

function expectKinds(options: MessageOptions, expect: Expect): void {
  type Whole = 'timeoutMs' | 'expiresInMs' | 'delayMs' | 'partition' | 'timestamp';
  const whole = (name: Whole, least: number, most: number): void => {
    const value = options[name];
    const fits = value === undefined || (Number.isSafeInteger(value) && value >= least && value <= most);
    expect(fits, name, `an integer from ${least} to ${most}`, value);
  };
  whole('timeoutMs', 1, longestMs);
  whole('expiresInMs', 0, longestMs);
  whole('delayMs', 0, longestMs);
  whole('partition', 0, 2 ** 31 - 1);
  whole('timestamp', 0, latestTimeMs);
  const { priority } = options;
  const isPriority =
    priority === undefined || (Number.isInteger(priority) && priority >= 0 && priority <= 255);
  expect(isPriority, 'priority', 'an integer from 0 to 255', priority);
  for (const name of ['key', 'messageId', 'correlationId', 'contentType', 'appId'] as const) {
    const value = options[name];
    const fits =
      value === undefined || (typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= 255);
    expect(fits, name, 'text of 1 to 255 bytes', value);
  }
}

function expectDestination(to: MessageDestination, scope: OutboundScope, expect: Expect): void {
  const kinds = ['queue', 'exchange', 'topic'] as const;
  const named = kinds.filter(
    (kind) => typeof (to as Partial<Record<string, unknown>> | null)?.[kind] === 'string',
  );
  const possible = [...scope.capabilities.destinations].map((kind) => `{ ${kind} }`).join(' or ');
  expect(named.length === 1 && scope.capabilities.destinations.has(named[0]!), 'to', possible, to);
}
