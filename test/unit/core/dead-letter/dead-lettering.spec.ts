import { describe, expect, it } from 'vitest';
import {
  resolveDeadLetter,
  type DeadLetterNotice,
  type DeadLetterOptions,
} from '../../../../lib/core/dead-letter/dead-letter-options.js';
import type { InboundMessage } from '../../../../lib/core/port/message.js';
import { processDelivery } from '../../../../lib/core/consume/pipeline.js';
import { settle } from '../harness.js';
import { deliveryOf, failure, deadLetters, loseSource, newBench, TestHandler } from '../pipeline-harness.js';

const secret: Partial<InboundMessage> = { body: Buffer.from('secret 4111') };

function newDesk(options: DeadLetterOptions, handlers = [new TestHandler('event', 'h', 'order.paid')]) {
  const told: DeadLetterNotice[] = [];
  const onDeadLetter = (notice: DeadLetterNotice): void => void told.push(notice);
  const bench = newBench(handlers, { deadLetter: resolveDeadLetter({ onDeadLetter, ...options }) });
  return { ...bench, told };
}

describe('the letter of a message that no handler may see', () => {
  const masked = { redact: (text: string) => text.replaceAll(/\d{4}/g, '****') };

  it('is redacted as the transport says: what a parser makes of a body may quote it', async () => {
    const { scope } = newDesk(masked);
    const test = deliveryOf(secret);
    await processDelivery(test.delivery, scope);
    const { headers } = test.source.republished[0]!;
    expect(headers['stork-error-message']).toContain('secret ****');
  });

  it.each<[reason: string, message: Partial<InboundMessage>, handler: string | undefined]>([
    ['undecodable', { ...secret, headers: { 'stork-attempt': '2' } }, undefined],
    ['invalid', { body: Buffer.alloc(1_001) }, undefined],
    ['no-handler', { patterns: ['4111', 'y'] }, undefined],
    ['no-handler', { headers: { 'stork-handler': 'Gone.one' } }, 'Gone.one'],
  ])('is told of once it is stored: %s %#', async (reason, message, handler) => {
    const { told, scope, clock } = newDesk(masked);
    const test = deliveryOf(message);
    test.source.refusals = 1;
    const done = processDelivery(test.delivery, scope);
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

  it('is kept where the transport keeps none of those that its handlers fail', async () => {
    const { told, counters, scope } = newDesk({ enabled: false });
    const test = deliveryOf(secret);
    await processDelivery(test.delivery, scope);
    expect(deadLetters(test)).toEqual([['undecodable', undefined, '1']]);
    expect(told).toHaveLength(1);
    expect(counters.snapshot()).toEqual({ received: 1, 'dead-lettered': 1 });
  });

  it("goes to the source's companion, wherever the handlers' go", async () => {
    const { scope } = newDesk({ queue: 'elsewhere' });
    const test = deliveryOf(secret);
    await processDelivery(test.delivery, scope);
    expect(test.source.republished[0]).not.toHaveProperty('target');
  });

  it('is told of to nobody where the source was lost first', async () => {
    const { told, scope } = newDesk({});
    const test = deliveryOf(secret);
    test.source.refusals = 1;
    const done = processDelivery(test.delivery, scope);
    await settle();
    loseSource(test);
    await done;
    expect(told).toEqual([]);
  });

  it('is stored although whoever is told of it fails, which is logged', async () => {
    const onDeadLetter = (): never => {
      throw new Error('no pager');
    };
    const { logger, scope } = newDesk({ onDeadLetter });
    const test = deliveryOf(secret);
    await processDelivery(test.delivery, scope);
    await settle();
    expect(test.source.events).toEqual(['republish 1', 'ack 1']);
    expect(logger.lines).toContain('error orders: onDeadLetter failed: no pager');
  });
});

it("a failing handler's letter is its own policy's alone", async () => {
  const handler = new TestHandler('event', 'h', '#', async () => failure('card 4111'), {
    deadLetter: resolveDeadLetter(),
  });
  const { told, scope } = newDesk({ redact: () => 'nothing' }, [handler]);
  const test = deliveryOf();
  await processDelivery(test.delivery, scope);
  expect(test.source.republished[0]!.headers['stork-error-message']).toBe('card 4111');
  expect(told).toEqual([]);
});
