import { Test } from '@nestjs/testing';
import { RmqRecordBuilder } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  StorkClient,
  StorkModule,
  StorkRecordBuilder,
  type MessageOptions,
  type StorkConfigError,
} from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { memory } from 'nestjs-stork/memory';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { freePort } from '../../support/brokers/parts.mjs';

// What a transport does with an option is decided before it connects, so no broker is needed: what is not
// refused fails for another reason, at the latest because nothing listens there.

const publishTimeoutMs = 50;
const transports = {
  'memory (queue)': () => memory({ queue: 'orders' }),
  'memory (log)': () => memory({ mode: 'log', topic: 'orders' }),
  rabbitmq: (port: number) =>
    rabbitmq({ url: `amqp://127.0.0.1:${port}`, queue: 'orders', publishTimeoutMs }),
  kafka: (port: number) => kafka({ brokers: [`127.0.0.1:${port}`], publishTimeoutMs }),
};
type Broker = keyof typeof transports;

const queues: readonly Broker[] = ['memory (queue)', 'rabbitmq'];
const logs: readonly Broker[] = ['memory (log)', 'kafka'];
const all = [...queues, ...logs];
const none: readonly Broker[] = [];

interface Row {
  readonly option: MessageOptions;
  /** Transports that honour it on an event, and on a request. */
  readonly event: readonly Broker[];
  readonly request: readonly Broker[];
}

/** One row for each option at least. */
const rows: Readonly<Record<keyof MessageOptions, readonly Row[]>> = {
  headers: [{ option: { headers: { tenant: 'x' } }, event: all, request: all }],
  key: [{ option: { key: 'k' }, event: all, request: all }],
  messageId: [{ option: { messageId: 'm-1' }, event: all, request: all }],
  requestId: [{ option: { requestId: 'r-1' }, event: none, request: all }],
  correlationId: [{ option: { correlationId: 'c-1' }, event: all, request: all }],
  timeoutMs: [{ option: { timeoutMs: 50 }, event: all, request: all }],
  signal: [{ option: { signal: new AbortController().signal }, event: all, request: all }],
  contentType: [{ option: { contentType: 'text/plain' }, event: all, request: all }],
  timestamp: [{ option: { timestamp: 1_000 }, event: all, request: all }],
  expiresInMs: [{ option: { expiresInMs: 1_000 }, event: queues, request: queues }],
  delayMs: [
    { option: { delayMs: 1_000 }, event: queues, request: none },
    { option: { delayMs: 0 }, event: queues, request: none },
  ],
  persistent: [
    { option: { persistent: false }, event: queues, request: queues },
    { option: { persistent: true }, event: queues, request: queues },
  ],
  priority: [{ option: { priority: 5 }, event: queues, request: queues }],
  partition: [{ option: { partition: 0 }, event: logs, request: logs }],
  appId: [{ option: { appId: 'shop' }, event: queues, request: queues }],
  to: [
    { option: { to: { queue: 'other' } }, event: queues, request: queues },
    { option: { to: { exchange: 'shop', routingKey: 'a' } }, event: queues, request: queues },
    { option: { to: { topic: 'other' } }, event: logs, request: logs },
  ],
};

describe.each(Object.keys(transports) as Broker[])('on %s', (broker) => {
  const close = { testing: async (): Promise<void> => {} };
  let client: StorkClient;
  beforeAll(async () => {
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports: { shop: transports[broker](await freePort()) } })],
    })
      .setLogger(false as never)
      .compile();
    close.testing = () => testing.close();
    client = testing.get(StorkClient);
  });
  afterAll(() => close.testing());

  const ways = {
    event: {
      'publish()': (options: MessageOptions) => client.publish('a', 'x', options),
      'emit() of a record': (options: MessageOptions) =>
        firstValueFrom(client.emit('a', new StorkRecordBuilder('x').setOptions(options).build())),
    },
    request: {
      'request()': (options: MessageOptions) => client.request('a', 'x', { timeoutMs: 50, ...options }),
      'send() of a record': (options: MessageOptions) => {
        const record = new StorkRecordBuilder('x').setOptions({ timeoutMs: 50, ...options }).build();
        return firstValueFrom(client.send('a', record));
      },
    },
  };

  const cases = (Object.keys(ways) as (keyof typeof ways)[]).flatMap((kind) =>
    Object.entries(ways[kind]).flatMap(([way, send]) =>
      Object.entries(rows).flatMap(([name, options]) =>
        options.map((row) => {
          const isHonoured = row[kind].includes(broker);
          const { signal, ...shown } = row.option;
          const text = `${isHonoured ? 'takes' : 'refuses'} ${signal ? 'a signal' : JSON.stringify(shown)}`;
          return [`${way} ${text}`, { name, send, isHonoured, option: row.option }] as const;
        }),
      ),
    ),
  );

  it.each(cases)('%s', async (_, { name, send, isHonoured, option }) => {
    const error: unknown = await send(option).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (isHonoured) return expect(error).not.toMatchObject({ code: 'CONFIG' });
    expect(error).toMatchObject({ code: 'CONFIG', problems: [{ name }] });
    expect((error as StorkConfigError).problems[0]!.expected).toMatch(
      name === 'to' ? /^\{ (queue|topic) \}/ : /^nothing: (an event|the transport "shop" does not)/,
    );
  });

  it('emit() refuses options of RmqRecordBuilder like its own', async () => {
    const record = new RmqRecordBuilder('x').setOptions({ priority: 5, appId: 'shop' }).build();
    const error: unknown = await firstValueFrom(client.emit('a', record)).catch((reason: unknown) => reason);
    const problems = [{ name: 'priority' }, { name: 'appId' }];
    if (logs.includes(broker)) expect(error).toMatchObject({ code: 'CONFIG', problems });
    else expect(error).not.toMatchObject({ code: 'CONFIG' });
  });
});
