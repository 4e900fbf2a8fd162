import { Controller } from '@nestjs/common';
import { Ctx, EventPattern } from '@nestjs/microservices';
import type { ConfirmChannel } from 'amqplib';
import { expect, it, onTestFinished } from 'vitest';
import { Retry, StorkContext } from 'nestjs-stork';
import { header, integer, publishRaw, sized, value } from '../../support/amqp-bytes.js';
import { useRabbitMqNode } from '../../support/rabbitmq-node.js';
import { list, openStore, replay } from './dead-letter-queues.js';
import { Raw, startRabbitApp, uniqueQueue } from './support.js';

// RabbitMQ 3.10 cannot dead-letter a message whose `x-death` is a list of other things than tables: its
// worker dies, for all queues of the node. So no copy of such a message may carry the header.

/** Replays succeed. */
@Controller()
class Worker {
  @Retry({ maxRetries: 0, redeliverDelaysMs: [50, 50] })
  @EventPattern<string>('job')
  job(@Ctx() context: StorkContext): void {
    if (context.headers['stork-replay-count'] === undefined) throw new Error('no way');
  }
}

const malformed = [
  sized('A', sized('S', 'rejected')),
  sized('A', integer('l', 7), sized('F')),
  sized('A', value('V')),
  sized('A', sized('A', sized('F', header('queue', sized('S', 'orders'))))),
];

const node = useRabbitMqNode();

it('an x-death that is no list of tables harms no retry, no dead letter, no replay and no other queue', async () => {
  const raw = new Raw(node().url);
  await raw.open();
  onTestFinished(() => raw.close());
  const queue = uniqueQueue();
  const options = { queue, url: node().url };
  const { client, counts } = await startRabbitApp({ controllers: [Worker], options });
  for (const death of malformed)
    await publishRaw(raw.channel as ConfirmChannel, queue, Buffer.from('1'), {
      type: 'job',
      contentType: 'application/json',
      headers: Buffer.concat([header('x-death', death), header('tenant', sized('S', 'blue'))]),
    });
  await expect.poll(() => counts()['dead-lettered']).toBe(malformed.length);
  expect(counts()['redelivered']).toBe(malformed.length * 2);
  const store = await openStore(options);
  await expect.poll(() => store.count()).toBe(malformed.length);
  for (const deadLetter of await list(store)) {
    expect(deadLetter).toMatchObject({
      reason: 'retries-exhausted',
      attempts: 3,
      headers: { tenant: 'blue' },
    });
    expect(deadLetter.headers).not.toHaveProperty('x-death');
  }
  expect(await replay(store)).toMatchObject({ done: malformed.length, skipped: 0 });
  await expect.poll(() => counts()['handled']).toBe(malformed.length);
  // The broker still dead-letters: a delayed message returns through a queue of its own.
  await client.publish('job', 2, { delayMs: 100 });
  await expect.poll(() => counts()['dead-lettered']).toBe(malformed.length + 1);
});
