import { randomUUID } from 'node:crypto';
import { Controller } from '@nestjs/common';
import { Ctx, EventPattern } from '@nestjs/microservices';
import {
  AclOperationTypes,
  AclPermissionTypes,
  AclResourceTypes,
  Kafka,
  logLevel,
  ResourcePatternTypes,
  type Producer,
} from 'kafkajs';
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished } from 'vitest';
import { KafkaContext } from 'nestjs-stork/kafka';
import { throwAway, type ThrowAway } from '../../support/brokers/index.mjs';
import { createTopic } from '../../support/kafka-topics.js';
import { refusal, startKafkaApp, uniqueTopic } from './kafka-app.js';
import { openStore, replayAll, warnings } from './dead-letter-stores.js';
import { brokers, startSender } from './support-produce.js';

const password = randomUUID();
const login = (username: string) => ({ mechanism: 'plain', username, password }) as const;
const module = 'org.apache.kafka.common.security.plain.PlainLoginModule';

describe.skipIf(brokers === undefined)('Kafka: without the right to', () => {
  let server: ThrowAway<'kafka'> | undefined;
  let admin: ReturnType<Kafka['admin']>;
  let producer: Producer;

  beforeAll(async () => {
    server = await throwAway('kafka', {
      version: inject('kafkaVersion'),
      sasl: { user: 'root', password },
      config: [
        'authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer',
        // Connections without a login are the broker's own.
        'super.users=User:ANONYMOUS;User:root',
        `listener.name.sasl.plain.sasl.jaas.config=${module} required user_root="${password}" user_shop="${password}";`,
      ],
    });
    const kafka = new Kafka({ brokers: server.brokers, sasl: login('root'), logLevel: logLevel.NOTHING });
    admin = kafka.admin();
    producer = kafka.producer();
    await Promise.all([admin.connect(), producer.connect()]);
    await endTransaction(kafka);
  }, 180_000);
  afterAll(async () => {
    await Promise.all([admin?.disconnect(), producer?.disconnect()]);
    await server?.remove();
  });

  /** The first transaction makes the broker create __transaction_state, which takes a moment. */
  async function endTransaction(kafka: Kafka): Promise<void> {
    const transactionalId = uniqueTopic();
    const first = kafka.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 });
    await first.connect();
    await (await first.transaction()).abort();
    await first.disconnect();
  }

  async function topic(...operations: readonly AclOperationTypes[]): Promise<string> {
    const name = uniqueTopic();
    await createTopic(admin, name, 1);
    await allow(AclResourceTypes.TOPIC, name, ...operations);
    return name;
  }

  const allow = (type: AclResourceTypes, name: string, ...operations: readonly AclOperationTypes[]) =>
    allowAs(ResourcePatternTypes.LITERAL, type, name, operations);
  const allowPrefixed = (type: AclResourceTypes, name: string, ...operations: readonly AclOperationTypes[]) =>
    allowAs(ResourcePatternTypes.PREFIXED, type, name, operations);

  async function allowAs(
    resourcePatternType: ResourcePatternTypes,
    resourceType: AclResourceTypes,
    resourceName: string,
    operations: readonly AclOperationTypes[],
  ): Promise<void> {
    if (operations.length === 0) return;
    const who = { resourceType, resourceName, resourcePatternType, principal: 'User:shop', host: '*' };
    const permissionType = AclPermissionTypes.ALLOW;
    await admin.createAcls({ acl: operations.map((operation) => ({ ...who, operation, permissionType })) });
    // The controller confirms; the broker that checks the ACL applies it a moment later.
    const granted = async (): Promise<readonly AclOperationTypes[]> => {
      const asked = { ...who, operation: AclOperationTypes.ANY, permissionType };
      const { resources } = await admin.describeAcls(asked);
      return resources.flatMap(({ acls }) => acls.map(({ operation }) => operation));
    };
    await expect.poll(granted).toEqual(expect.arrayContaining([...operations]));
  }

  const options = () => ({ brokers: server!.brokers, sasl: login('shop') });

  it('write: PUBLISH_REJECTED, and other topics continue', async () => {
    const [mine, readOnly, hidden] = await Promise.all([
      topic(AclOperationTypes.WRITE, AclOperationTypes.DESCRIBE),
      topic(AclOperationTypes.READ),
      topic(),
    ]);
    const { client, connection } = await startSender(options());
    for (let i = 0; i < 2; i++) {
      const sent = [mine, readOnly, hidden].map((name) => client.publish(name, i));
      const outcomes = await Promise.allSettled(sent);
      expect(outcomes).toMatchObject([
        { status: 'fulfilled' },
        { reason: { code: 'PUBLISH_REJECTED', message: expect.stringContaining(readOnly) } },
        { reason: { code: 'PUBLISH_REJECTED', message: expect.stringContaining(hidden) } },
      ]);
    }
    expect(connection().value).toBe('ready');
  });

  it('log in: listen() rejects with the reason, without the password', async () => {
    const wrong = { ...login('shop'), password: 'swordfish' };
    const { error } = await refusal({ options: { ...options(), sasl: wrong } });
    expect(error).toMatchObject({ code: 'CONFIG', message: expect.stringMatching(/authentication/i) });
    expect(error.message).not.toContain('swordfish');
  });

  it('create topics: listen() rejects with the commands that create them', async () => {
    const missing = uniqueTopic();
    @Controller()
    class Consumer {
      @EventPattern<string>(missing)
      handle(): void {}
    }
    const { error } = await refusal({ controllers: [Consumer], options: { ...options(), partitions: 3 } });
    expect(error).toMatchObject({ code: 'CONFIG' });
    const create = `kafka-topics.sh --bootstrap-server ${server!.brokers[0]} --create --topic ${missing}`;
    expect(error.message).toContain(`${create} --partitions 3`);
  });

  it('join the group: listen() rejects and names it', async () => {
    const name = await topic();
    const { READ, WRITE, CREATE, DESCRIBE_CONFIGS } = AclOperationTypes;
    // Every topic that the library creates begins with the name of its source.
    await allowPrefixed(AclResourceTypes.TOPIC, name, READ, WRITE, CREATE, DESCRIBE_CONFIGS);
    const attempts: number[] = [];
    @Controller()
    class Consumer {
      @EventPattern<string>(name)
      handle(@Ctx() { attempt }: KafkaContext): void {
        attempts.push(attempt);
        if (attempt === 1) throw new Error('no');
      }
    }
    const groupId = uniqueTopic();
    const module = { retry: { maxRetries: 0, redeliverDelaysMs: [100] } };
    const app = { controllers: [Consumer], options: { ...options(), groupId }, module };
    const { error } = await refusal(app);
    expect(error).toMatchObject({ message: expect.stringMatching(/not authorized/i) });
    expect(error.message).toContain(groupId);
    // With the right it starts.
    await allow(AclResourceTypes.GROUP, groupId, READ);
    const { client } = await startKafkaApp(app);
    await client.publish(name, 1);
    await expect.poll(() => attempts).toEqual([1, 2]);
  });

  it('create retry and dead letter topics: listen() rejects with the commands that create them', async () => {
    const name = await topic(AclOperationTypes.READ, AclOperationTypes.DESCRIBE_CONFIGS);
    @Controller()
    class Consumer {
      @EventPattern<string>(name)
      handle(): void {}
    }
    const groupId = uniqueTopic();
    const { error } = await refusal({ controllers: [Consumer], options: { ...options(), groupId } });
    for (const created of [`${name}.dlq`, `${name}.retry.${groupId}.0`])
      expect(error.message).toContain(`--create --topic ${created} --partitions 1`);
  });

  it('transactions: dead letters are replayed one by one, with a warning', async () => {
    const source = await topic(AclOperationTypes.READ);
    const groupId = uniqueTopic();
    const deadLetters = `${source}.dlq`;
    await createTopic(admin, deadLetters, 1);
    await allow(AclResourceTypes.TOPIC, deadLetters, AclOperationTypes.READ);
    await writeDeadLetters(source, groupId, 20);
    const hidden = openStore({ ...options(), groupId }, { source, from: await topic() });
    await expect(hidden).rejects.toMatchObject({ code: 'CONFIG' });
    const { store, close } = await openStore({ ...options(), groupId }, { source });
    onTestFinished(close);
    expect(await store.warnings()).toEqual([
      expect.stringContaining(`the members of the group "${groupId}" cannot be counted`),
    ]);
    const retry = `${source}.retry.${groupId}.0`;
    for (const name of [`${deadLetters}.marks`, retry]) {
      await expect(replayAll(store)).rejects.toMatchObject({
        code: 'CONFIG',
        message: expect.stringContaining(`--create --topic ${name} --partitions 1`),
      });
      await createTopic(admin, name, 1);
      await allow(AclResourceTypes.TOPIC, name, AclOperationTypes.WRITE, AclOperationTypes.READ);
    }
    const before = warnings.length;
    expect(await replayAll(store)).toMatchObject({ done: 20, skipped: 0 });
    expect(warnings.slice(before)).toEqual([
      expect.stringContaining(`no permission for the transactional id ${deadLetters}.${groupId}.replay`),
    ]);
    expect(await replayAll(store)).toMatchObject({ seen: 0 });
    const [ends] = await admin.fetchTopicOffsets(retry);
    expect(ends!.high).toBe('20');
    // With the right, in one transaction.
    await allow(
      AclResourceTypes.TRANSACTIONAL_ID,
      `${deadLetters}.${groupId}.replay`,
      AclOperationTypes.WRITE,
    );
    await writeDeadLetters(source, groupId, 20);
    expect(await replayAll(store)).toMatchObject({ done: 20, skipped: 0 });
    expect(warnings.length).toBe(before + 1);
    // The marker that ends the transaction is a record of its own, which the broker writes a moment later.
    await expect.poll(async () => (await admin.fetchTopicOffsets(retry))[0]!.high).toBe('41');
  });

  async function writeDeadLetters(source: string, group: string, count: number): Promise<void> {
    const headers = {
      'stork-origin': source,
      'stork-group': group,
      'stork-failed-at': new Date().toISOString(),
    };
    const messages = Array.from({ length: count }, (_, n) => ({ value: String(n), headers }));
    await producer.send({ topic: `${source}.dlq`, messages });
  }
});
