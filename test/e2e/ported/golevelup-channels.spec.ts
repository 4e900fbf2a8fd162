import { Controller } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { via } from 'nestjs-stork';
import { rabbitmq, type RabbitMqOptions } from 'nestjs-stork/rabbitmq';
import { Seen } from '../../contract/app.js';
import { reconnect, refusal, url, useRaw } from '../rabbitmq/support.js';
import { startHybrid, uniqueSource, type Hybrid } from './support.js';

const events = new Seen<unknown>();
const numbers = [1, 2, 3, 4, 5];
let [eventNumber, requestNumber] = [1, 1];

/** A transport has a channel of its own: it stands for a channel with a prefetch count. */
@Controller()
class Channels {
  @EventPattern<string>('event', via('second'))
  eventOfSecond(@Payload() data: unknown): void {
    events.add(data);
  }
  @MessagePattern<string>('request', via('first'))
  requestOfFirst(@Payload() payload: unknown): unknown {
    return { response: 'hi', payload };
  }
  @EventPattern<string>('event', via('usual'))
  eventOfUsual(@Payload() data: unknown): void {
    events.add(data);
  }
  @MessagePattern<string>('request', via('usual'))
  requestOfUsual(@Payload() payload: unknown): unknown {
    return { response: 'hello', payload };
  }
  @EventPattern<string>('numbered', via('first'))
  numbered(@Payload() received: number): void {
    events.add({ actual: eventNumber++, received });
  }
  @MessagePattern<string>('numbered', via('third'))
  numberedRequest(@Payload() received: number): unknown {
    return { actual: requestNumber++, received };
  }
}

describe.skipIf(url === undefined)('golevelup: a channel for each of several consumers', () => {
  const raw = useRaw();
  let hybrid: Hybrid;

  beforeAll(async () => {
    const transport = (options: Partial<RabbitMqOptions> = {}) =>
      rabbitmq({ url, reconnect, queue: raw().queue(uniqueSource()), ...options });
    const oneByOne = { prefetch: 1, concurrency: 1 };
    const transports = {
      first: transport(oneByOne),
      second: transport(),
      third: transport(oneByOne),
      usual: transport(),
    };
    hybrid = await startHybrid({ stork: { transports }, controllers: [Channels] });
  });
  afterAll(() => hybrid.app.close());

  it.each(['second', 'usual'])('an event arrives by %s', async (name) => {
    const before = events.all.length;
    await hybrid.client(name).publish('event', { message: name });
    expect((await events.count(before + 1)).slice(before)).toEqual([{ message: name }]);
  });

  it.each([
    ['first', 'hi'],
    ['usual', 'hello'],
  ])('a request is answered by %s', async (name, response) => {
    const payload = { message: name };
    expect(await hybrid.client(name).request('request', payload)).toEqual({ response, payload });
  });

  it('with a prefetch of one, events are handled in the order of publishing', async () => {
    const before = events.all.length;
    await Promise.all(numbers.map((n) => hybrid.client('first').publish('numbered', n)));
    const handled = await events.count(before + numbers.length);
    expect(handled.slice(before)).toEqual(numbers.map((n) => ({ actual: n, received: n })));
  });

  it('with a prefetch of one, requests are handled in the order of sending', async () => {
    const replies = await Promise.all(numbers.map((n) => hybrid.client('third').request('numbered', n)));
    expect(replies).toEqual(numbers.map((n) => ({ actual: n, received: n })));
  });

  it.each(['event', 'request'])(
    'a handler of an %s on a channel that nothing declares is refused',
    async (kind) => {
      const handles = kind === 'event' ? EventPattern : MessagePattern;
      @Controller()
      class Elsewhere {
        @handles('pattern', via('elsewhere'))
        handle(): void {}
      }
      const { error } = await refusal({ controllers: [Elsewhere] });
      expect(error.message).toMatch(/Elsewhere.*"elsewhere"/s);
    },
  );
});
