import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { via, type StorkClient } from 'nestjs-stork';
import { rabbitmq, type RabbitMqOptions } from 'nestjs-stork/rabbitmq';
import { Seen } from '../../contract/app.js';
import { reconnect, refusal, startRabbitApp, url, useRaw } from '../rabbitmq/support.js';
import { asJson, lenientJson } from './golevelup-support.js';
import { startHybrid, uniqueSource, type Hybrid } from './support.js';

const newQueue = uniqueSource();
/** Patterns that handlers take from a configuration. */
const configured = { one: 'configured.one', several: ['configured.a', 'configured.b'] };
const seen = {
  message: new Seen<unknown>(),
  configured: new Seen<unknown>(),
  text: new Seen<unknown>(),
  create: new Seen<unknown>(),
  update: new Seen<unknown>(),
  delete: new Seen<unknown>(),
  fanout: new Seen<unknown>(),
  bound: new Seen<unknown>(),
  returning: new Seen<unknown>(),
};

@Controller()
class Subscriber {
  @EventPattern(['route.1', 'route.2'], via('main'))
  message(@Payload() data: unknown): void {
    seen.message.add(data);
  }
  @EventPattern<string>(configured.one, via('main'))
  configuredOne(@Payload() data: unknown): void {
    seen.configured.add(data);
  }
  @EventPattern(configured.several, via('main'))
  configuredSeveral(@Payload() data: unknown): void {
    seen.configured.add(data);
  }
  @EventPattern<string>('text', via('main'))
  text(@Payload() data: unknown): void {
    seen.text.add(data);
  }
  @EventPattern<string>('object.create', via('main'))
  create(@Payload() data: unknown): void {
    seen.create.add(data);
  }
  @EventPattern<string>('object.update', via('main'))
  update(@Payload() data: unknown): void {
    seen.update.add(data);
  }
  @EventPattern<string>('object.delete', via('main'))
  delete(@Payload() data: unknown): void {
    seen.delete.add(data);
  }
  @EventPattern<string>(newQueue, via('alone'))
  alone(@Payload() data: unknown): void {
    seen.message.add(data);
  }
  @EventPattern<string>('#', via('fanout'))
  fanout(@Payload() data: unknown): void {
    seen.fanout.add(data);
  }
  @EventPattern<string>('bound', via('main'))
  ofMain(@Payload() data: unknown): void {
    seen.bound.add(data);
  }
  @EventPattern<string>('bound', via('other'))
  ofOther(@Payload() data: unknown): void {
    seen.bound.add(data);
  }
}

@Controller()
class Returning {
  @EventPattern<string>('returning')
  async returning(@Payload() data: unknown): Promise<boolean> {
    seen.returning.add(data);
    return true;
  }
}

describe.skipIf(url === undefined)('golevelup: subscriptions', () => {
  const raw = useRaw();
  let hybrid: Hybrid;
  let client: StorkClient;
  let fanoutExchange: string;

  beforeAll(async () => {
    fanoutExchange = raw().exchange();
    const transport = (options: Partial<RabbitMqOptions>, queue = uniqueSource()) =>
      rabbitmq({ url, reconnect, codecs: [lenientJson], queue: raw().queue(queue), ...options });
    hybrid = await startHybrid({
      stork: {
        transports: {
          main: transport({ exchange: { name: raw().exchange(), type: 'topic' } }),
          other: transport({ exchange: { name: raw().exchange(), type: 'topic' } }),
          fanout: transport({ exchange: { name: fanoutExchange, type: 'fanout' } }),
          alone: transport({}, newQueue),
        },
      },
      controllers: [Subscriber],
    });
    client = hybrid.client();
  });
  afterAll(() => hybrid.app.close());

  /** What the handler sees meanwhile: exactly `count` messages. */
  async function during(of: Seen<unknown>, count: number, work: () => Promise<unknown>): Promise<unknown[]> {
    const before = of.all.length;
    await work();
    return (await of.count(before + count)).slice(before);
  }
  const bySize = (a: unknown, b: unknown): number => Number(a) - Number(b);

  it('messages of every pattern of a handler are handled', async () => {
    const handled = await during(seen.message, 2, () =>
      Promise.all([1, 2].map((n) => client.publish(`route.${n}`, `message ${n}`))),
    );
    expect(handled.toSorted()).toEqual(['message 1', 'message 2']);
  });

  it('a handler takes its pattern from a configuration', async () => {
    const publish = (): Promise<void> => client.publish(configured.one, 'message');
    expect(await during(seen.configured, 1, publish)).toEqual(['message']);
  });

  it('a handler takes several patterns from a configuration', async () => {
    const handled = await during(seen.configured, 2, () =>
      Promise.all(configured.several.map((pattern) => client.publish(pattern, pattern))),
    );
    expect(handled.toSorted()).toEqual(configured.several);
  });

  it('three handlers with similar patterns of a topic exchange get a hundred messages each', async () => {
    const numbers = Array.from({ length: 100 }, (_, n) => n);
    const kinds = ['create', 'update', 'delete'] as const;
    await Promise.all(kinds.flatMap((kind) => numbers.map((n) => client.publish(`object.${kind}`, n))));
    for (const kind of kinds) {
      expect((await seen[kind].count(100)).toSorted(bySize)).toEqual(numbers);
    }
  });

  it('a handler that takes more than JSON gets what cannot be parsed as text', async () => {
    const handled = await during(seen.text, 3, async () => {
      for (const body of [undefined, Buffer.alloc(0), Buffer.from('{a:')]) {
        await client.publish('text', body, asJson);
      }
    });
    expect(handled.toSorted()).toEqual(['', '', '{a:']);
  });

  it('a new queue without an exchange gets what is sent to its name', async () => {
    const handled = await during(seen.message, 1, async () => {
      raw().channel.sendToQueue(newQueue, Buffer.from('"{\\"key\\":\\"value\\"}"'), asJson);
    });
    expect(handled).toEqual(['{"key":"value"}']);
  });

  it('a queue of a fanout exchange gets messages without a routing key', async () => {
    const handled = await during(seen.fanout, 1, async () => {
      raw().channel.publish(fanoutExchange, '', Buffer.from('{"message":"all"}'), asJson);
    });
    expect(handled).toEqual([{ message: 'all' }]);
  });

  it('what a handler of an event returns is dropped, and the message acknowledged', async () => {
    const queue = raw().queue(uniqueSource());
    const worker = await startRabbitApp({ controllers: [Returning], options: { queue } });
    await worker.client.publish('returning', 1);
    expect(await seen.returning.count(1)).toEqual([1]);
    await worker.close();
    expect([await raw().count(queue), await raw().count(`${queue}.dlq`)]).toEqual([0, 0]);
  });

  describe('of two exchanges', () => {
    it.each(['main', 'other'])('a handler gets messages of the exchange of %s', async (transport) => {
      const publish = (): Promise<void> => hybrid.client(transport).publish('bound', transport);
      expect(await during(seen.bound, 1, publish)).toEqual([transport]);
    });

    it('a handler gets messages of both', async () => {
      const handled = await during(seen.bound, 2, () =>
        Promise.all(['main', 'other'].map((name) => hybrid.client(name).publish('bound', name))),
      );
      expect(handled.toSorted()).toEqual(['main', 'other']);
    });
  });

  describe('that wait for a later version', () => {
    it('a queue that exists with other arguments is refused by name', async () => {
      const queue = raw().queue(uniqueSource());
      await raw().channel.assertQueue(queue);
      const { error } = await refusal({ controllers: [Returning], options: { queue } });
      expect(error.message).toContain(queue);
    });

    it('a consumer tag is no option, and is refused by name', async () => {
      const options = { consumerTag: 'mine' } as Partial<RabbitMqOptions>;
      const { error } = await refusal({ controllers: [Returning], options });
      expect(error.message).toContain('consumerTag');
    });
  });
});
