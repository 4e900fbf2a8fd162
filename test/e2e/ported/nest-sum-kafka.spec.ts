import { Body, Controller, HttpCode, Post } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload, type ClientProxy } from '@nestjs/microservices';
import { firstValueFrom, type Observable } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InjectClient } from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { Gate, Seen } from '../../contract/app.js';
import { brokers, reconnect, useForeign } from '../kafka/kafka-app.js';
import { startHybrid, sumOf, uniqueSource, type Hybrid } from './support.js';

interface User {
  readonly name: string;
  readonly years: number;
}
interface Business {
  readonly name: string;
  readonly user: User;
}

const run = uniqueSource();
/** Each pattern is a topic. */
const topics = {
  record: `${run}.record`,
  withoutKey: `${run}.without-key`,
  object: `${run}.object`,
  array: `${run}.array`,
  text: `${run}.text`,
  number: `${run}.number`,
  notify: `${run}.notify`,
  user: `${run}.user`,
  business: `${run}.business`,
  blocked: `${run}.blocked`,
  free: `${run}.free`,
};
const notified = new Seen<unknown>();
const [blocked, free, began] = [new Seen<unknown>(), new Seen<unknown>(), new Seen<unknown>()];
let gate = new Gate();

@Controller()
class Handlers {
  @MessagePattern([topics.record, topics.withoutKey, topics.object])
  sum(@Payload() { numbers }: { readonly numbers: readonly number[] }): number {
    return sumOf(numbers);
  }
  @MessagePattern<string>(topics.array)
  array(@Payload() numbers: readonly number[]): number {
    return sumOf(numbers);
  }
  @MessagePattern<string>(topics.text)
  text(@Payload() list: string): number {
    return sumOf(list.split(',').map(Number));
  }
  @MessagePattern<string>(topics.number)
  digits(@Payload() digits: number): number {
    return sumOf([...String(digits)].map(Number));
  }
  @EventPattern<string>(topics.notify)
  notified(@Payload() data: unknown): void {
    notified.add(data);
  }
  @MessagePattern<string>(topics.user)
  async user(@Payload() { user }: { readonly user: User }): Promise<unknown> {
    return { id: 1, ...user };
  }
  @MessagePattern<string>(topics.business)
  async business(@Payload() { business }: { readonly business: Business }): Promise<unknown> {
    return { id: 2, ...business };
  }
  @EventPattern<string>(topics.blocked)
  async blocked(@Payload() data: unknown): Promise<void> {
    began.add(data);
    await gate.opened;
    blocked.add(data);
  }
  @EventPattern<string>(topics.free)
  free(@Payload() data: unknown): void {
    free.add(data);
  }
}

@Controller()
class Routes {
  readonly #client: ClientProxy;

  constructor(@InjectClient('main') client: ClientProxy) {
    this.#client = client;
  }

  @Post('record')
  @HttpCode(200)
  record(@Body() numbers: readonly number[]): Observable<number> {
    return this.#client.send(topics.record, { key: '1', value: { numbers } });
  }
  @Post('without-key')
  @HttpCode(200)
  withoutKey(@Body() numbers: readonly number[]): Observable<number> {
    return this.#client.send(topics.withoutKey, { value: { numbers } });
  }
  @Post('object')
  @HttpCode(200)
  object(@Body() numbers: readonly number[]): Observable<number> {
    return this.#client.send(topics.object, { numbers });
  }
  @Post('array')
  @HttpCode(200)
  array(@Body() numbers: readonly number[]): Observable<number> {
    return this.#client.send(topics.array, numbers);
  }
  @Post('text')
  @HttpCode(200)
  text(@Body() numbers: readonly number[]): Observable<number> {
    return this.#client.send(topics.text, numbers.join(','));
  }
  @Post('number')
  @HttpCode(200)
  number(@Body() [digits]: readonly number[]): Observable<number> {
    return this.#client.send(topics.number, digits);
  }
  @Post('notify')
  notify(): Observable<unknown> {
    return this.#client.emit(topics.notify, { notify: true });
  }
  @Post('user')
  @HttpCode(200)
  user(@Body() user: User): Promise<unknown> {
    return firstValueFrom(this.#client.send<unknown>(topics.user, { key: '1', value: { user } }));
  }
  @Post('business')
  @HttpCode(200)
  business(@Body() business: Business): Observable<unknown> {
    return this.#client.send(topics.business, { key: '1', value: { business } });
  }
}

describe.skipIf(brokers === undefined)('Nest: Kafka with a topic for each pattern', () => {
  const foreign = useForeign();
  const numbers = [1, 2, 3, 4, 5];
  const ben: User = { name: 'Ben', years: 33 };
  let hybrid: Hybrid;

  beforeAll(async () => {
    for (const topic of Object.values(topics)) foreign().noted(topic);
    foreign().noted(`${run}.reply`);
    const main = kafka({ brokers, groupId: run, partitions: 1, reconnect });
    hybrid = await startHybrid({ stork: { transports: { main } }, controllers: [Handlers, Routes] });
  });
  afterAll(() => hybrid.app.close());

  it('the application starts, and has created the topics', async () => {
    expect(await foreign().admin.listTopics()).toEqual(expect.arrayContaining(Object.values(topics)));
  });

  it.each([
    ['a record of key and value', '/record', numbers],
    ['a record of a value alone', '/without-key', numbers],
    ['an object', '/object', numbers],
    ['an array', '/array', numbers],
    ['a text', '/text', numbers],
    ['a number', '/number', [12_345]],
  ])('a request with %s gets the sum', async (_, path, body) => {
    expect(await hybrid.post(path, body)).toEqual({ status: 200, text: '15' });
  });

  it('an emitted event reaches its handler', async () => {
    await hybrid.post('/notify');
    expect(await notified.count(1)).toEqual([{ notify: true }]);
  });

  it('an object comes back as it is', async () => {
    const { status, text } = await hybrid.post('/user', ben);
    expect({ status, user: JSON.parse(text) as unknown }).toEqual({ status: 200, user: { id: 1, ...ben } });
  });

  it('an object in an object comes back as it is', async () => {
    const shop: Business = { name: 'Shop', user: ben };
    const { status, text } = await hybrid.post('/business', shop);
    expect({ status, business: JSON.parse(text) as unknown }).toEqual({
      status: 200,
      business: { id: 2, ...shop },
    });
  });

  it('a hundred requests at once get their own replies', async () => {
    const users = Array.from({ length: 100 }, (_, i) => ({ ...ben, name: `Ben ${i}` }));
    const replies = await Promise.all(users.map((user) => hybrid.post('/user', user)));
    expect(replies.map(({ status, text }) => [status, JSON.parse(text) as unknown])).toEqual(
      users.map((user) => [200, { id: 1, ...user }]),
    );
  });

  describe('topics beside one another', () => {
    it('events of both topics are handled', async () => {
      gate.open();
      await Promise.all([
        hybrid.client().publish(topics.blocked, 1),
        hybrid.client().publish(topics.free, 1),
      ]);
      expect([await blocked.count(1), await free.count(1)]).toEqual([[1], [1]]);
    });

    it('an event of one topic is handled while the handler of the other is blocked', async () => {
      gate = new Gate();
      await hybrid.client().publish(topics.blocked, 2);
      await began.count(2);
      await hybrid.client().publish(topics.free, 2);
      expect(await free.count(2)).toEqual([1, 2]);
      expect(blocked.all).toEqual([1]);
      gate.open();
      expect(await blocked.count(2)).toEqual([1, 2]);
    });
  });
});
