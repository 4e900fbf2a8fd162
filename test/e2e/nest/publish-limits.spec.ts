import { Logger } from '@nestjs/common';
import { Test } from '@nestjs/testing';
import { firstValueFrom } from 'rxjs';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { StorkClient, StorkModule, StorkRecordBuilder, StorkService } from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { memory } from 'nestjs-stork/memory';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { freePort } from '../../support/brokers/parts.mjs';
import { LogLines } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

const reconnect = { delayMs: 20, maxDelayMs: 50 };
const publishTimeoutMs = 400;
/** On a busy machine timers are late; `startTimeoutMs` is a minute. */
const promptMs = 15_000;

const transports = {
  rabbitmq: (port: number) =>
    rabbitmq({ url: `amqp://127.0.0.1:${port}`, queue: 'orders', reconnect, publishTimeoutMs }),
  kafka: (port: number) => kafka({ brokers: [`127.0.0.1:${port}`], reconnect, publishTimeoutMs }),
};

type Send = (client: StorkClient) => Promise<unknown>;
const options = { timeoutMs: 200 };
const record = new StorkRecordBuilder({ id: 1 }).setOptions(options).build();
const lost = { code: 'CONNECTION_LOST' };
const timedOut = { code: 'REQUEST_TIMEOUT' };
const aborted = { name: 'TimeoutError' };

const sends: [string, Send, object][] = [
  ['publish()', (client) => client.publish('created', {}), lost],
  ['publish() with timeoutMs', (client) => client.publish('created', {}, options), lost],
  [
    'publish() with a signal',
    (client) => client.publish('created', {}, { signal: AbortSignal.timeout(200) }),
    aborted,
  ],
  ['a delayed publish()', (client) => client.publish('created', {}, { delayMs: 50 }), lost],
  ['emit()', (client) => firstValueFrom(client.emit('created', {})), lost],
  ['emit() of a record', (client) => firstValueFrom(client.emit('created', record)), lost],
  ['request()', (client) => client.request('quote', {}, options), timedOut],
  [
    'request() with a signal',
    (client) => client.request('quote', {}, { signal: AbortSignal.timeout(200) }),
    aborted,
  ],
  ['send() of a record', (client) => firstValueFrom(client.send('quote', record)), timedOut],
];

describe.each(Object.entries(transports))('with %s away since the start', (name, newTransport) => {
  async function start() {
    const logs = new LogLines();
    const testing = await Test.createTestingModule({
      imports: [StorkModule.forRoot({ transports: { main: newTransport(await freePort()) } })],
    })
      .setLogger(logs)
      .compile();
    onTestFinished(() => testing.close());
    await testing.init();
    const counts = () => testing.get(StorkService).state()['main']!.counts;
    return { client: testing.get<StorkClient>(StorkClient), logs, counts };
  }

  const possible = sends.filter(([what]) => name !== 'kafka' || what !== 'a delayed publish()');
  it.each(possible)('%s ends in time', async (_, send, error) => {
    const { client } = await start();
    const beganAt = performance.now();
    await expect(send(client)).rejects.toMatchObject(error);
    expect(performance.now() - beganAt).toBeLessThan(promptMs);
  });

  it('an emit() without a subscriber ends too, with a log line', async () => {
    const { client, logs, counts } = await start();
    client.emit('created', {});
    await expect.poll(() => counts()['emit-failed'], { timeout: promptMs }).toBe(1);
    expect(logs.containing('emit("created") failed: main: the message with the pattern "created"')).toEqual([
      expect.stringContaining(`was not sent within ${publishTimeoutMs} ms`),
    ]);
  });
});

it.each([0, -1, 1.5, '30s', NaN])('publishTimeoutMs %s is refused by name', async (given) => {
  const transport = memory({ queue: 'orders', publishTimeoutMs: given as number });
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports: { main: transport } })],
  }).compile();
  await expect(testing.init()).rejects.toThrow(
    'transports.main.publishTimeoutMs: expected an integer from 1 up, given',
  );
});

it.each([
  ['timeoutMs', { timeoutMs: '5s' }],
  ['timeoutMs', { timeoutMs: NaN }],
  ['signal', { signal: {} }],
])('a message whose %s is wrong is refused by name, before it is waited for', async (name, options) => {
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports: { main: memory({ queue: 'orders' }) } })],
  }).compile();
  onTestFinished(() => testing.close());
  const client = testing.get(StorkClient);
  const problems = [{ name }];
  for (const publishing of [
    client.publish('a', {}, options as never),
    client.request('a', {}, options as never),
  ])
    await expect(publishing).rejects.toMatchObject({ code: 'CONFIG', problems });
});
