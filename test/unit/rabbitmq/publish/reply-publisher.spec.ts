import { describe, expect, it } from 'vitest';
import type { OutboundReply } from '../../../../lib/core/port/message.js';
import { MessageTooLargeError, PublishUnconfirmedError } from '../../../../lib/core/runtime/errors.js';
import type { Publication } from '../../../../lib/rabbitmq/publish/publisher.js';
import { ReplyPublisher } from '../../../../lib/rabbitmq/publish/reply-publisher.js';

const reply: OutboundReply = {
  kind: 'value',
  endsStream: false,
  correlationId: 'c-1',
  body: Buffer.from('1'),
  contentType: 'application/json',
  headers: {},
};
const direct = (name: string): string => `amq.rabbitmq.reply-to.${name}`;
const closed = (code: number): Error =>
  new PublishUnconfirmedError('closed', { cause: Object.assign(new Error('closed'), { code }) });

/** A connection: what was published on it, and how it answers. */
class Line {
  readonly addresses: string[] = [];
  inFlight = 0;
  mostInFlight = 0;
  answer: (address: string) => Error | undefined = () => undefined;

  async publish({ routingKey }: Publication): Promise<void> {
    this.addresses.push(routingKey.replace(direct(''), ''));
    this.mostInFlight = Math.max(this.mostInFlight, ++this.inFlight);
    await new Promise(setImmediate);
    this.inFlight--;
    const error = this.answer(routingKey);
    if (error !== undefined) throw error;
  }
}

function newBench() {
  const main = new Line();
  const isolated = new Line();
  let opened = 0;
  const replies = new ReplyPublisher(main, async () => {
    opened++;
    return isolated;
  });
  const send = (name: string) => replies.send(direct(name), reply);
  return { main, isolated, send, opened: () => opened };
}

describe('replies of RabbitMQ', () => {
  it('use one connection while no address is forged', async () => {
    const { main, send, opened } = newBench();
    expect(await Promise.all([send('a'), send('b'), send('a')])).toEqual(Array(3).fill('confirmed'));
    expect([main.addresses, opened()]).toEqual([['a', 'b', 'a'], 0]);
  });

  it('that were in flight at a refusal are sent again, one at a time, on another connection', async () => {
    const { main, isolated, send, opened } = newBench();
    main.answer = () => closed(541);
    isolated.answer = (address) => (address === direct('forged') ? closed(541) : undefined);
    const sent = await Promise.all([send('a'), send('forged'), send('b')]);
    expect(sent).toEqual(['confirmed', 'undeliverable', 'confirmed']);
    expect([isolated.addresses, isolated.mostInFlight, opened()]).toEqual([['a', 'forged', 'b'], 1, 1]);
  });

  it('go to an address that has received one on the first connection, and to new ones on the other', async () => {
    const { main, isolated, send } = newBench();
    await send('known');
    main.answer = () => closed(541);
    isolated.answer = (address) => (address.includes('forged') ? closed(541) : undefined);
    await send('forged');
    main.answer = () => undefined;
    main.addresses.length = isolated.addresses.length = 0;
    await Promise.all([send('known'), send('forged 2'), send('new'), send('known')]);
    expect([main.addresses, isolated.addresses]).toEqual([
      ['known', 'known'],
      ['forged 2', 'new'],
    ]);
    await send('new');
    expect(main.addresses.at(-1)).toBe('new');
  });

  it('are left to a retry when the connection was lost', async () => {
    const { main, send, opened } = newBench();
    main.answer = () => closed(320);
    await expect(send('a')).rejects.toThrow(PublishUnconfirmedError);
    expect(opened()).toBe(0);
  });

  it('that exceed the size limit say so, whether it is known at once or closes the channel', async () => {
    const { main, isolated, send } = newBench();
    main.answer = () => new MessageTooLargeError('too large');
    expect(await send('a')).toBe('too-large');
    main.answer = isolated.answer = () => closed(406);
    expect(await send('a')).toBe('too-large');
  });

  it('open the other connection again where that has failed', async () => {
    const main = new Line();
    const isolated = new Line();
    const opening = [Promise.reject(new Error('no connection')), Promise.resolve(isolated)];
    opening[0]!.catch(() => {});
    const replies = new ReplyPublisher(main, () => opening.shift()!);
    main.answer = () => closed(541);
    await expect(replies.send(direct('a'), reply)).rejects.toThrow('no connection');
    expect(await replies.send(direct('a'), reply)).toBe('confirmed');
  });
});
