import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { systemClock } from '../../../../lib/core/runtime/clock.js';
import { PublishCancellation } from '../../../../lib/core/port/publish-cancellation.js';
import { MessageTooLargeError } from '../../../../lib/core/runtime/errors.js';
import type { Connection } from '../../../../lib/rabbitmq/connection/connection.js';
import { Publisher, type Publication } from '../../../../lib/rabbitmq/publish/publisher.js';

/** A channel that confirms at once, and cannot encode messages with the routing key `bad`. */
class FakeChannel extends EventEmitter {
  readonly sent: string[] = [];

  publish(_exchange: string, key: string, _body: Buffer, _options: object, confirm: (e: null) => void): true {
    if (key === 'bad') throw new RangeError('too large');
    this.sent.push(key);
    setImmediate(() => confirm(null));
    return true;
  }

  async close(): Promise<void> {
    this.emit('close');
  }
}

function publication(routingKey: string): Publication {
  return { exchange: '', routingKey, body: Buffer.from('x'), options: {} };
}

function open(maxMessages = 100) {
  const channel = new FakeChannel();
  const model = Object.assign(new EventEmitter(), { createConfirmChannel: async () => channel });
  const quiet = (): void => {};
  const publisher = new Publisher({
    connection: { ready: async () => model } as unknown as Connection,
    name: 'test',
    reconnect: { delayMs: 1, maxDelayMs: 1 },
    clock: systemClock,
    random: () => 0,
    logger: { log: quiet, warn: quiet, error: quiet, debug: quiet },
    maxMessages,
    maxBytes: 1_000,
  });
  return { publisher, channel };
}

describe('the publisher', () => {
  it('sends buffered messages before later ones', async () => {
    const { publisher, channel } = open();
    const buffered = ['a', 'b', 'c'].map((key) => publisher.publish(publication(key)));
    await publisher.start();
    await Promise.all([...buffered, publisher.publish(publication('d'))]);
    expect(channel.sent).toEqual(['a', 'b', 'c', 'd']);
    await publisher.close();
  });

  it('sends a message that is published while buffered messages are sent', async () => {
    const { publisher, channel } = open();
    const again = publisher.publish(publication('bad')).catch((error: unknown) => {
      expect(error).toBeInstanceOf(MessageTooLargeError);
      return publisher.publish(publication('again'));
    });
    await publisher.start();
    await again;
    await publisher.publish(publication('later'));
    expect(channel.sent).toEqual(['again', 'later']);
    await publisher.close();
  });

  it('never sends a buffered message that was cancelled, and gives its place to another', async () => {
    const { publisher, channel } = open(3);
    const cancellations = ['a', 'b', 'c'].map((key) => {
      const cancellation = new PublishCancellation();
      void publisher.publish(publication(key), cancellation);
      return cancellation;
    });
    await expect(publisher.publish(publication('d'))).rejects.toMatchObject({ code: 'BUFFER_FULL' });
    expect(cancellations[1]!.cancel()).toBe(true);
    const last = publisher.publish(publication('e'));
    await publisher.start();
    expect(cancellations.map((each) => each.cancel())).toEqual([false, false, false]);
    await last;
    expect(channel.sent).toEqual(['a', 'c', 'e']);
    await publisher.close();
  });

  it('does not accept a message that is cancelled already', async () => {
    const { publisher, channel } = open();
    await publisher.start();
    const cancellation = new PublishCancellation();
    cancellation.cancel();
    await publisher.publish(publication('a'), cancellation);
    await publisher.publish(publication('b'));
    expect(channel.sent).toEqual(['b']);
    await publisher.close();
  });

  it('is idle once every buffered message was cancelled', async () => {
    const { publisher } = open();
    const cancellation = new PublishCancellation();
    void publisher.publish(publication('a'), cancellation);
    const flushed = publisher.flush();
    cancellation.cancel();
    await flushed;
    await publisher.close();
  });
});
