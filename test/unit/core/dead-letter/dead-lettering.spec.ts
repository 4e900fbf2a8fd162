import { describe, expect, it } from 'vitest';
import {
  resolveDeadLetter,
  type DeadLetterNotice,
  type DeadLetterOptions,
} from '../../../../lib/core/dead-letter/dead-letter-options.js';
import type { InboundMessage } from '../../../../lib/core/port/message.js';
import { settle } from '../harness.js';
import {
  deliveryOf,
  failure,
  deadLetters,
  loseSource,
  newBench,
  TestHandler,
  processAlone,
} from '../pipeline-harness.js';

const secret: Partial<InboundMessage> = { body: Buffer.from('secret 4111') };

function newDesk(options: DeadLetterOptions, handlers = [new TestHandler('event', 'h', 'order.paid')]) {
  const told: DeadLetterNotice[] = [];
  const onDeadLetter = (notice: DeadLetterNotice): void => void told.push(notice);
  const bench = newBench(handlers, { deadLetter: resolveDeadLetter({ onDeadLetter, ...options }) });
  return { ...bench, told };
}

describe('the dead letter of a message that reaches no handler', () => {
  const masked = { redact: (text: string) => text.replaceAll(/\d{4}/g, '****') };

  it("is redacted by the transport's policy: a parser's error may quote the body", async () => {
    const { scope } = newDesk(masked);
    const test = deliveryOf(secret);
    await processAlone(test.delivery, scope);
    const { headers } = test.source.republished[0]!;
    expect(headers['stork-error-message']).toContain('secret ****');
  });

  it.each<[reason: string, message: Partial<InboundMessage>, handler: string | undefined]>([
    ['undecodable', { ...secret, headers: { 'stork-attempt': '2' } }, undefined],
    ['invalid', { body: Buffer.alloc(1_001) }, undefined],
    ['no-handler', { patterns: ['4111', 'y'] }, undefined],
    ['no-handler', { patterns: ['x'], headers: { 'stork-handler': 'Gone.one' } }, 'Gone.one'],
  ])('is notified once it is stored: %s %#', async (reason, message, handler) => {
    const { told, scope, clock } = newDesk(masked);
    const test = deliveryOf(message);
    test.source.refusals = 1;
    const done = processAlone(test.delivery, scope);
    await settle();
    expect(told).toEqual([]);
    await clock.advance(500);
    await done;
    expect(told).toEqual([
      {
        reason,
        error: expect.objectContaining({ name: expect.any(String), message: expect.any(String) }),
        transport: 'orders',
        pattern: test.delivery.message.patterns[0],
        handler,
        messageId: 'm-1',
        attempt: message.headers?.['stork-attempt'] === undefined ? 1 : 2,
      },
    ]);
  });

  it('is stored even if the transport disables dead-lettering of failed handlers', async () => {
    const { told, counters, scope } = newDesk({ enabled: false });
    const test = deliveryOf(secret);
    await processAlone(test.delivery, scope);
    expect(deadLetters(test)).toEqual([['undecodable', undefined, '1']]);
    expect(told).toHaveLength(1);
    expect(counters.snapshot()).toEqual({ received: 1, 'dead-lettered': 1 });
  });

  it('goes to the default of the source, wherever those of the handlers go', async () => {
    const { scope } = newDesk({ queue: 'elsewhere' });
    const test = deliveryOf(secret);
    await processAlone(test.delivery, scope);
    expect(test.source.republished[0]).not.toHaveProperty('target');
  });

  it('is not notified when the source was lost first', async () => {
    const { told, scope } = newDesk({});
    const test = deliveryOf(secret);
    test.source.refusals = 1;
    const done = processAlone(test.delivery, scope);
    await settle();
    loseSource(test);
    await done;
    expect(told).toEqual([]);
  });

  it('is stored even if onDeadLetter fails, which is logged', async () => {
    const onDeadLetter = (): never => {
      throw new Error('no pager');
    };
    const { logger, scope } = newDesk({ onDeadLetter });
    const test = deliveryOf(secret);
    await processAlone(test.delivery, scope);
    await settle();
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    expect(logger.lines).toContain('error orders: onDeadLetter failed: no pager');
  });
});

it("the dead letter of a failed handler follows only that handler's policy", async () => {
  const handler = new TestHandler('event', 'h', '#', async () => failure('card 4111'), {
    deadLetter: resolveDeadLetter(),
  });
  const { told, scope } = newDesk({ redact: () => 'nothing' }, [handler]);
  const test = deliveryOf();
  await processAlone(test.delivery, scope);
  expect(test.source.republished[0]!.headers['stork-error-message']).toBe('card 4111');
  expect(told).toEqual([]);
});
