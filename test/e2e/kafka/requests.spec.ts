import { Controller } from '@nestjs/common';
import { MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import { PartitionAssigners, type Cluster } from 'kafkajs';
import { afterAll, beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { RequestTimeoutError } from 'nestjs-stork';
import type { KafkaOptions } from 'nestjs-stork/kafka';
import { eventually, Gate } from '../../contract/app.js';
import { startProxiedKafka, type ProxiedKafka } from '../../support/proxied-kafka.js';
import { brokers, buildApp, Foreign, startKafkaApp, textOf, uniqueTopic, useForeign } from './kafka-app.js';

const patternHeader = 'kind';
let gate = new Gate();

@Controller()
class Calculator {
  @MessagePattern<string>('double')
  double(@Payload() n: number): number {
    return n * 2;
  }
  @MessagePattern<string>('text')
  text(@Payload() length: number): string {
    return 'x'.repeat(length);
  }
  @MessagePattern<string>('refusal')
  refusal(@Payload() length: number): never {
    throw new RpcException({ code: 'REFUSED', message: 'x'.repeat(length) });
  }
  @MessagePattern<string>('held')
  async held(@Payload() n: number): Promise<number> {
    await gate.opened;
    return n;
  }
}

/** Fields that are missing in the types of kafkajs. */
interface Coordinator {
  leaveGroup(member: { readonly groupId: string; readonly memberId: string }): Promise<unknown>;
}

const controllers = [Calculator];
const numbers = (count: number): number[] => Array.from({ length: count }, (_, n) => n);

describe.skipIf(brokers === undefined)('Kafka: requests', () => {
  const foreign = useForeign();

  /** A client without handlers. */
  const startClient = async (options: Partial<KafkaOptions> = {}) => {
    const clientId = uniqueTopic();
    const replyTopic = foreign().noted(options.replyTopic ?? `${clientId}.reply`);
    const started = await startKafkaApp({ options: { clientId, replyTopic, patternHeader, ...options } });
    return { ...started, replyTopic };
  };
  const startServer = async () => {
    const topic = await foreign().topic();
    await startKafkaApp({ controllers, options: { topic, patternHeader } });
    return topic;
  };

  it('right after the start lose no reply, repeatedly', async () => {
    const topic = await startServer();
    const replyTopic = foreign().noted(`${uniqueTopic()}.reply`);
    for (let start = 0; start < 5; start++) {
      const built = await buildApp({ options: { topic, replyTopic, patternHeader } });
      await built.app.listen();
      const answers = await Promise.all(numbers(61).map((n) => built.client.request<number>('double', n)));
      expect(answers).toEqual(numbers(61).map((n) => n * 2));
      await built.close();
    }
  });

  it('of two clients on one partition of a reply topic get their own replies', async () => {
    const topic = await startServer();
    const replyTopic = await foreign().topic(`${uniqueTopic()}.reply`, 1);
    const clients = await Promise.all([
      startClient({ topic, replyTopic }),
      startClient({ topic, replyTopic }),
    ]);
    const answers = await Promise.all(
      clients.map(({ client }, i) =>
        Promise.all(numbers(20).map((n) => client.request<number>('double', n * 10 + i))),
      ),
    );
    expect(answers).toEqual([0, 1].map((i) => numbers(20).map((n) => 2 * (n * 10 + i))));
    for (const { counts } of clients) expect(counts()['late-replies']).toBeUndefined();
  });

  it('create their reply topic, or use the existing one', async () => {
    const topic = await startServer();
    const made = await startClient({ topic });
    expect(await made.client.request('double', 1)).toBe(2);
    expect(await foreign().admin.listTopics()).toContain(made.replyTopic);
    // Old replies in it belong to no pending request.
    const used = await foreign().topic(`${uniqueTopic()}.reply`, 3);
    await foreign().send(used, { value: 'old', headers: { kafka_correlationId: 'old' } });
    const taken = await startClient({ topic, replyTopic: used });
    expect(await taken.client.request('double', 2)).toBe(4);
  });

  it('to a topic that does not exist fail at once', async () => {
    const { client } = await startClient({ topic: uniqueTopic() });
    const failure = await client.request('double', 1).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'NO_ROUTE' });
  });

  it('without a reply time out, naming their destination', async () => {
    const topic = await foreign().topic();
    const { client } = await startClient({ topic });
    // The timeout starts at the call, and fetching the metadata may take longer: so the topic must be known
    // before.
    await client.publish('nobody', 0);
    let failure: unknown;
    await expect
      .poll(async () => {
        failure = await client.request('nobody', 1, { timeoutMs: 300 }).catch((error: unknown) => error);
        return String(failure);
      })
      // On a busy machine the reply consumer may rejoin its group, and the error says so.
      .not.toContain('replies cannot be read at present');
    expect(failure).toBeInstanceOf(RequestTimeoutError);
    expect(String(failure)).toContain(`the topic "${topic}" exists`);
  });

  it('whose reply or error exceeds the size of a record get an error that says so', async () => {
    const topic = await startServer();
    const { client } = await startClient({ topic });
    const length = 2_000_000;
    const tooLarge = { name: 'RemoteError', code: 'TOO_LARGE', retryable: false };
    await expect(client.request('text', length)).rejects.toMatchObject(tooLarge);
    const refused = { code: 'REFUSED', message: 'x'.repeat(1_000) };
    await expect(client.request('refusal', length)).rejects.toMatchObject(refused);
    expect(await client.request('double', 2)).toBe(4);
  });

  it('leave no group behind', async () => {
    const topic = await startServer();
    const { client, close } = await startClient({ topic, groupId: undefined, clientId: topic });
    expect(await client.request('double', 1)).toBe(2);
    const groups = async (): Promise<readonly string[]> => {
      const { groups: all } = await foreign().admin.listGroups();
      return all.map(({ groupId }) => groupId).filter((groupId) => groupId.startsWith(`${topic}.reply`));
    };
    expect((await groups()).length).toBe(1);
    await close();
    await expect.poll(groups).toEqual([]);
  });

  it('of a foreign client are answered by the headers of the wire', async () => {
    const topic = await startServer();
    const replies = await foreign().topic(`${uniqueTopic()}.reply`, 2);
    const address = { kafka_replyTopic: replies, kafka_replyPartition: '1' };
    const ask = (kind: string, kafka_correlationId: string) => ({
      value: '4',
      headers: { kind, kafka_correlationId, 'content-type': 'application/json', ...address },
    });
    await foreign().send(topic, ask('double', 'c-1'), ask('no.such', 'c-2'));
    const answers = await foreign().records(replies, 2);
    expect(answers.map(({ partition }) => partition)).toEqual([1, 1]);
    const of = (id: string) => answers.find((answer) => textOf(answer, 'kafka_correlationId') === id);
    expect(of('c-1')!.value!.toString()).toBe('8');
    expect(textOf(of('c-1'), 'content-type')).toBe('application/json');
    expect(JSON.parse(textOf(of('c-2'), 'kafka_nest-err')!)).toMatchObject({ code: 'NO_HANDLER' });
  });
});

describe.skipIf(brokers === undefined)('Kafka: requests over a broken connection', () => {
  let own: ProxiedKafka;
  let foreign: Foreign;

  // Starting a broker on a busy machine takes longer than the default hook timeout.
  vi.setConfig({ hookTimeout: 180_000 });
  beforeAll(async () => {
    if (brokers === undefined) return;
    own = await startProxiedKafka({ version: inject('kafkaVersion') });
    foreign = new Foreign(own.server.brokers);
    await foreign.open();
  });
  afterAll(async () => {
    if (brokers === undefined) return;
    await foreign.close();
    await own.close();
  });

  /** The server reaches the broker directly, the client through the proxy. */
  async function start() {
    const topic = await foreign.topic();
    const times = { sessionTimeoutMs: 6_000, heartbeatIntervalMs: 500 };
    await startKafkaApp({ controllers, options: { brokers: own.server.brokers, topic, patternHeader } });
    const clientId = uniqueTopic();
    const client = await startKafkaApp({
      options: { brokers: own.proxied, groupId: undefined, clientId, topic, patternHeader, ...times },
    });
    return { ...client, topic, clientId };
  }

  it('get the replies that arrived while the connection was lost', async () => {
    const { client, service } = await start();
    expect(await client.request('double', 1)).toBe(2);
    gate = new Gate();
    const pending = numbers(61).map((n) => client.request<number>('held', n));
    await eventually(
      async () => (service.state()['main']!.pendingRequests === 61 ? true : undefined),
      'all to wait',
    );
    const settled = Promise.allSettled(pending);
    own.proxy.cut();
    gate.open();
    own.proxy.cut();
    const outcomes = await settled;
    // A request that was sent and not confirmed in time is rejected as such; no sent request waits forever.
    const timedOut = outcomes.filter(
      (one) => one.status === 'rejected' && one.reason instanceof RequestTimeoutError,
    );
    expect(timedOut).toEqual([]);
    expect(await client.request('double', 2)).toBe(4);
  });

  it('survive the removal of the reply consumer from its group', async () => {
    const { client, clientId } = await start();
    expect(await client.request('double', 1)).toBe(2);
    const { groups } = await foreign.admin.listGroups();
    const group = groups.find(({ groupId }) => groupId.startsWith(`${clientId}.reply`))!.groupId;
    for (let round = 0; round < 3; round++) {
      gate = new Gate();
      const pending = numbers(61).map((n) => client.request<number>('held', n));
      await expel(foreign, group);
      gate.open();
      expect(await Promise.all(pending)).toEqual(numbers(61));
    }
  });
});

/** Removes the member from its group, as if its session had timed out. */
async function expel(foreign: Foreign, groupId: string): Promise<void> {
  const memberId = await eventually(async () => {
    const { groups } = await foreign.admin.describeGroups([groupId]);
    return groups[0]!.state === 'Stable' ? groups[0]!.members[0]?.memberId : undefined;
  }, `the member of ${groupId}`);
  let cluster: Cluster | undefined;
  const consumer = foreign.kafka.consumer({
    groupId: 'never-joined',
    partitionAssigners: [
      (config) => {
        cluster = config.cluster;
        return PartitionAssigners.roundRobin(config);
      },
    ],
  });
  await consumer.connect();
  const coordinator = (await cluster!.findGroupCoordinator({ groupId })) as unknown as Coordinator;
  await coordinator.leaveGroup({ groupId, memberId });
  await consumer.disconnect();
}
