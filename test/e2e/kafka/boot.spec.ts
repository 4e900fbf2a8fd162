import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer as createTlsServer, Server as TlsServer } from 'node:tls';
import { promisify } from 'node:util';
import { Controller } from '@nestjs/common';
import { EventPattern, MessagePattern } from '@nestjs/microservices';
import { PartitionAssigners, type Consumer } from 'kafkajs';
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished, vi } from 'vitest';
import { Consume, StorkConfigError } from 'nestjs-stork';
import { kafkaFromEnv, type KafkaOptions, type KafkaSasl } from 'nestjs-stork/kafka';
import { throwAway, type ThrowAway } from '../../support/brokers/index.mjs';
import { freePort } from '../../support/brokers/parts.mjs';
import { eventually } from '../../contract/app.js';
import { activeResources, expectNothingLeft, untilSocketWrites } from '../support.js';
import { brokers, buildApp, refusal, startKafkaApp, uniqueTopic, useForeign } from './kafka-app.js';

const run = promisify(execFile);

@Controller()
class Probe {
  @EventPattern<string>('probe')
  probe(): void {}
}

const controllers = [Probe];
const patternHeader = 'kind';

/** A controller with one handler. */
function handling(pattern: unknown) {
  @Controller()
  class Billing {
    @MessagePattern(pattern)
    charge(): void {}
  }
  return [Billing];
}

/** The message of an error and of its causes. */
function allOf(error: unknown): string {
  if (!(error instanceof Error)) return '';
  return `${error.message}\n${error.stack}\n${JSON.stringify(error)}\n${allOf(error.cause)}`;
}

/** A server on `port` that forwards everything to a broker. */
async function forwardTo(target: number, server: Server, port: number): Promise<void> {
  const sockets = new Set<Socket>();
  const take = (client: Socket): void => {
    const broker = connect(target, '127.0.0.1');
    for (const socket of [client, broker]) {
      sockets.add(socket);
      socket.on('error', () => {}).setNoDelay(true);
    }
    client.pipe(broker).pipe(client);
    client.on('close', () => broker.destroy());
    broker.on('close', () => client.destroy());
  };
  server.on(server instanceof TlsServer ? 'secureConnection' : 'connection', take);
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
}

describe('Kafka: options', () => {
  const problemsOf = async (options: object): Promise<Readonly<Record<string, string>>> => {
    const { error } = await refusal({ controllers, options: { topic: 'never', ...options } });
    expect(error).toBeInstanceOf(StorkConfigError);
    const { problems } = error as StorkConfigError;
    return Object.fromEntries(
      problems.map(({ name, expected, given }) => [
        name.replace('transports.main.', ''),
        `${expected}; ${given}`,
      ]),
    );
  };

  it.each([[undefined], [[]], [['localhost']], [['']], [['kafka://host:9092']], ['localhost:9092']])(
    'refuse the brokers %j',
    async (given) => {
      expect(await problemsOf({ brokers: given })).toEqual({
        brokers: expect.stringContaining("'host:port'") as string,
      });
    },
  );

  it('name every invalid option', async () => {
    const problems = await problemsOf({
      brokers: undefined,
      topics: [],
      fromBegining: true,
      acks: 'some',
      compression: 'zstd',
      fetch: { maxByte: 3 },
      partitioner: 'murmur',
      replyTopic: 'replies',
      wire: 'xml',
      reconnect: { delayMs: 5 },
      ssl: 'yes',
    });
    expect(Object.keys(problems).toSorted()).toEqual(
      [
        'acks',
        'brokers',
        'compressionCodecs',
        'fetch',
        'fromBegining',
        'partitioner',
        'reconnect',
        'replyTopic',
        'ssl',
        'topics',
        'wire',
      ].toSorted(),
    );
  });

  it('refuse a revokeTimeoutMs so long that the group would remove the member', async () => {
    const problems = await problemsOf({ brokers: ['h:1'], sessionTimeoutMs: 6_000, revokeTimeoutMs: 5_000 });
    expect(problems['revokeTimeoutMs']).toContain('at most 4000');
    expect(
      await problemsOf({ brokers: ['h:1'], sessionTimeoutMs: 6_000, heartbeatIntervalMs: 6_000 }),
    ).toHaveProperty('heartbeatIntervalMs');
  });

  it('contain no password', async () => {
    const sasl = { mechanism: 'PLAIN', username: 'me', password: 's3cret' };
    const { error } = await refusal({ controllers, options: { brokers: ['h:1'], sasl: sasl as never } });
    expect(error.message).toContain('transports.main.sasl');
    expect(allOf(error)).not.toContain('s3cret');
  });

  it.each([[{ cmd: 'charge' }], ['order.*'], ['a/b'], ['x'.repeat(250)]])(
    'refuse the pattern %j where it would be a topic, and name the fix',
    async (pattern) => {
      const { error } = await refusal({ controllers: handling(pattern), options: { brokers: ['h:1'] } });
      expect(error).toBeInstanceOf(StorkConfigError);
      for (const said of ['Billing.charge', '"main"', 'patternHeader', 'via()'])
        expect(error.message).toContain(said);
    },
  );

  it('refuse handlers of one topic that disagree', async () => {
    @Controller()
    class Torn {
      @EventPattern<string>('a')
      @Consume({ order: 'none' })
      first(): void {}
      @EventPattern<string>('b')
      @Consume({ order: 'partition' })
      second(): void {}
    }
    const options = { brokers: ['h:1'], topic: 'shared', patternHeader };
    const { error } = await refusal({ controllers: [Torn], options });
    expect(error).toBeInstanceOf(StorkConfigError);
    for (const said of ['Torn.first', 'Torn.second', 'order', '"main"'])
      expect(error.message).toContain(said);
  });

  it('come from the environment where no option sets them', () => {
    vi.stubEnv('KAFKA_BROKERS', 'one:1, two:2');
    vi.stubEnv('KAFKA_GROUP_ID', 'billing');
    onTestFinished(() => void vi.unstubAllEnvs());
    expect(kafkaFromEnv().common).toMatchObject({ brokers: ['one:1', 'two:2'], groupId: 'billing' });
    expect(kafkaFromEnv({ groupId: 'other' }).common).toMatchObject({
      brokers: ['one:1', 'two:2'],
      groupId: 'other',
    });
    expect(kafkaFromEnv().validate('p')).toEqual([]);
    vi.stubEnv('KAFKA_BROKERS', undefined);
    expect(kafkaFromEnv().validate('p')).toMatchObject([{ name: 'p.brokers' }]);
  });
});

describe.skipIf(brokers === undefined)('Kafka: start', () => {
  const foreign = useForeign();

  it('rejects with CLOSED at once when it is closed meanwhile, and leaves nothing open', async () => {
    for (let writes = 0; writes <= 20; writes += 2) {
      const before = activeResources();
      const { app, close } = await buildApp({
        controllers,
        options: { topic: foreign().noted(uniqueTopic()), patternHeader },
      });
      const written = untilSocketWrites(writes);
      let outcome: { readonly error?: unknown } | undefined;
      const listening = app.listen().then(
        () => (outcome = {}),
        (error: unknown) => (outcome = { error }),
      );
      await Promise.race([written, listening]);
      await close();
      const { error } = await eventually(async () => outcome, `listen() to settle`, 2_000);
      if (error !== undefined) expect(error, `after ${writes} writes`).toMatchObject({ code: 'CLOSED' });
      await expectNothingLeft(before);
    }
  });

  it('fails after startTimeoutMs if nothing listens on the port, and reports the reason', async () => {
    const port = await freePort();
    const options = {
      brokers: [`127.0.0.1:${port}`],
      topic: 'never',
      patternHeader,
      sasl: login('plain', 's3cret'),
    };
    const { error, tookMs } = await refusal({ controllers, options, module: { startTimeoutMs: 8_000 } });
    expect(error).toMatchObject({ code: 'CONNECTION_LOST' });
    for (const said of ['main', '8000 ms', 'ECONNREFUSED', `127.0.0.1:${port}`])
      expect(error.message).toContain(said);
    expect(allOf(error)).not.toContain('s3cret');
    expect(tookMs).toBeGreaterThanOrEqual(7_990);
    expect(tookMs).toBeLessThan(25_000);
  });

  it('fails after startTimeoutMs if the server accepts the connection and never responds', async () => {
    const sockets = new Set<Socket>();
    const mute = createServer((socket) => sockets.add(socket)).listen(0, '127.0.0.1');
    await once(mute, 'listening');
    onTestFinished(() => {
      for (const socket of sockets) socket.destroy();
      mute.close();
    });
    const address = `127.0.0.1:${(mute.address() as AddressInfo).port}`;
    const options = { brokers: [address], topic: 'never', patternHeader };
    const { error, tookMs } = await refusal({ controllers, options, module: { startTimeoutMs: 500 } });
    expect(error).toMatchObject({ code: 'CONNECTION_LOST' });
    expect(error.message).toContain(`${address} did not answer`);
    expect(tookMs).toBeLessThan(10_000);
  });

  it('ends at once if the application is closed meanwhile', async () => {
    const options = { brokers: [`127.0.0.1:${await freePort()}`], topic: 'never', patternHeader };
    const built = await buildApp({ controllers, options });
    const outcome = built.app.listen().catch((error: unknown) => error);
    await expect.poll(() => built.service.state()['main']!.connection.value).toBe('backoff');
    const began = performance.now();
    await built.close();
    expect(await outcome).toMatchObject({ code: 'CLOSED' });
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  it('connects through the address that responds', async () => {
    const topic = await foreign().topic();
    const { service } = await startKafkaApp({
      controllers,
      options: { brokers: ['127.0.0.1:1', ...brokers!], topic, patternHeader },
    });
    expect(service.state()['main']!.connection.value).toBe('ready');
  });

  it('refuses another cluster', async () => {
    const { clusterId } = await foreign().admin.describeCluster();
    const { error, tookMs } = await refusal({
      controllers,
      options: { clusterId: 'another', topic: 'never', patternHeader },
    });
    expect(error).toBeInstanceOf(StorkConfigError);
    for (const said of ['transports.main.clusterId', 'another', clusterId])
      expect(error.message).toContain(said);
    expect(tookMs).toBeLessThan(10_000);
    expect(await foreign().admin.listTopics()).not.toContain('never');
    const topic = await foreign().topic();
    await startKafkaApp({ controllers, options: { clusterId, topic, patternHeader } });
  });

  it('refuses a group whose members use another protocol', async () => {
    const topic = await foreign().topic();
    const groupId = uniqueTopic();
    const other: Consumer = foreign().kafka.consumer({
      groupId,
      maxWaitTimeInMs: 100,
      partitionAssigners: [
        (config) => ({
          ...PartitionAssigners.roundRobin(config),
          name: 'Other',
          protocol: (subscription) => ({
            ...PartitionAssigners.roundRobin(config).protocol(subscription),
            name: 'Other',
          }),
        }),
      ],
    });
    await other.connect();
    onTestFinished(() => other.disconnect());
    const joined = new Promise((resolve) => other.on('consumer.group_join', resolve));
    await other.subscribe({ topics: [topic] });
    await other.run({ eachMessage: async () => {} });
    await joined;
    const { error } = await refusal({ controllers, options: { groupId, topic, patternHeader } });
    expect(error).toBeInstanceOf(StorkConfigError);
    for (const said of [groupId, 'INCONSISTENT_GROUP_PROTOCOL']) expect(error.message).toContain(said);
  });
});

const password = 's3cret-right';

function login(mechanism: 'plain' | 'scram-sha-256' | 'scram-sha-512', given = password): KafkaSasl {
  return { mechanism, username: 'me', password: given };
}

describe.skipIf(brokers === undefined)('Kafka: a broker of its own', () => {
  let server: ThrowAway<'kafka'>;
  /** Plaintext, without a login; advertises `address`, on which nothing listens unless a test does. */
  let port: number;
  let address: string;

  // Starting a broker on a busy machine takes longer than the default hook timeout.
  vi.setConfig({ hookTimeout: 180_000 });
  beforeAll(async () => {
    if (brokers === undefined) return;
    port = await freePort();
    address = `127.0.0.1:${await freePort()}`;
    const sasl = { user: 'me', password };
    server = await throwAway('kafka', { version: inject('kafkaVersion'), sasl, proxied: { port, address } });
  });
  afterAll(async () => {
    if (brokers !== undefined) await server.remove();
  });

  const portOf = () => Number(address.split(':')[1]);
  const app = (options: Partial<KafkaOptions>) => {
    const topic = uniqueTopic();
    return { controllers, options: { topic, patternHeader, ...options } };
  };

  it.each(['plain', 'scram-sha-256', 'scram-sha-512'] as const)(
    'accepts a login by %s',
    async (mechanism) => {
      const { client, service } = await startKafkaApp(
        app({ brokers: server.brokers, sasl: login(mechanism) }),
      );
      await client.publish('probe', 1);
      expect(service.state()['main']!.connection.value).toBe('ready');
    },
  );

  it.each([
    ['password by plain', login('plain', 's3cret-wrong')],
    ['password by scram-sha-256', login('scram-sha-256', 's3cret-wrong')],
    ['password by scram-sha-512', login('scram-sha-512', 's3cret-wrong')],
    ['user', { mechanism: 'scram-sha-256', username: 'nobody', password: 's3cret-wrong' }],
    ['mechanism', { mechanism: 'oauthbearer', oauthBearerProvider: async () => ({ value: 's3cret-token' }) }],
  ] as const)('refuses a wrong %s at once', async (_what, sasl) => {
    const lines: string[] = [];
    const note = (line: unknown): void => void lines.push(String(line));
    const logger = { log: note, warn: note, error: note, debug: note, verbose: note, fatal: note };
    const { error, tookMs } = await refusal({ ...app({ brokers: server.brokers, sasl }), logger });
    expect(error).toBeInstanceOf(StorkConfigError);
    expect(error.message).toContain('main: the brokers refused the connection');
    expect(`${allOf(error)}${lines.join('\n')}`).not.toContain('s3cret');
    expect(lines.length).toBeGreaterThan(0);
    expect(tookMs).toBeLessThan(10_000);
  });

  it('reports a missing login where the broker requires one', async () => {
    const { error } = await refusal({
      ...app({ brokers: server.brokers }),
      module: { startTimeoutMs: 8_000 },
    });
    expect(error).toMatchObject({ code: 'CONNECTION_LOST' });
    expect(error.message).toContain('sasl');
  });

  it('names the advertised address if it cannot be reached', async () => {
    const { error, tookMs } = await refusal({
      ...app({ brokers: [`127.0.0.1:${port}`] }),
      module: { startTimeoutMs: 8_000 },
    });
    expect(error).toMatchObject({ code: 'CONNECTION_LOST' });
    for (const said of [`127.0.0.1:${port}`, address, 'advertised.listeners', 'ECONNREFUSED'])
      expect(error.message).toContain(said);
    expect(tookMs).toBeLessThan(25_000);
  });

  it('that starts within startTimeoutMs is waited for', async () => {
    const built = await buildApp(app({ brokers: [address] }));
    onTestFinished(built.close);
    const listening = built.app.listen();
    await expect.poll(() => built.service.state()['main']!.connection.value).toBe('backoff');
    await forwardTo(port, createServer(), portOf());
    await listening;
    await built.client.publish('probe', 1);
  });

  it('with a trusted certificate is connected to by TLS; an untrusted certificate is refused by name', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'stork-tls-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    const [keyFile, certFile] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
    const subject = ['-subj', '/CN=broker', '-addext', 'subjectAltName=IP:127.0.0.1'];
    const files = ['-keyout', keyFile, '-out', certFile, '-days', '1'];
    await run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', ...files, ...subject]);
    const [key, cert] = await Promise.all([readFile(keyFile, 'utf8'), readFile(certFile, 'utf8')]);
    await forwardTo(port, createTlsServer({ key, cert }), portOf());
    const { client } = await startKafkaApp(app({ brokers: [address], ssl: { ca: cert } }));
    await client.publish('probe', 1);
    const { error } = await refusal({
      ...app({ brokers: [address], ssl: true }),
      module: { startTimeoutMs: 8_000 },
    });
    expect(error.message).toMatch(/self-signed/);
  });
});
