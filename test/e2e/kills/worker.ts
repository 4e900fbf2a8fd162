import 'reflect-metadata';
import { writeSync } from 'node:fs';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import {
  Idempotent,
  Retry,
  StorkContext,
  storkMicroservice,
  StorkModule,
  type BeginOutcome,
  type IdempotencyStore,
  type IdempotencyStoreDefinition,
  type IdempotencyStoreEnvironment,
  type TransportDefinition,
} from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { redisIdempotencyStore } from 'nestjs-stork/redis';
import { Delivery } from '../../../lib/core/port/delivery.js';
import {
  concurrency,
  leaseMs,
  redeliverDelayMs,
  type Moment,
  type WorkerEvent,
  type WorkerSettings,
} from './moments.js';

// A consumer that kills itself at a given moment, in a process of its own. It reports each event on its
// standard output.

/** Long enough for a thousand messages to take a few commits. */
const handlerMs = 50;

const settings = JSON.parse(process.argv[2]!) as WorkerSettings;
let occurred = 0;

/** Writes synchronously, so that a process that is killed has reported everything. */
function report(
  event: WorkerEvent['event'],
  run: { readonly n?: number; readonly attempt?: number } = {},
): void {
  writeSync(1, `${JSON.stringify({ event, at: Date.now(), ...run })}\n`);
}

function reach(moment: Moment): void {
  if (moment !== settings.moment || ++occurred !== settings.dieAt) return;
  report('dying');
  process.kill(process.pid, 'SIGKILL');
  // If the signal is delivered after kill() has returned, no further code may run.
  for (;;);
}

const deadLetterHasTo = settings.moment === 'dead-letter-published';
const retryHasTo = settings.moment === 'retry-published';

/** Kills between the publisher confirm, or the end of the handler, and the acknowledgement. */
const copied = new WeakSet<Delivery>();
// oxlint-disable-next-line typescript/unbound-method -- called with the delivery that they are called on
const { ack, republishThenAck } = Delivery.prototype;
Delivery.prototype.republishThenAck = function (copies) {
  copied.add(this);
  return republishThenAck.call(this, copies);
};
Delivery.prototype.ack = function () {
  if (!copied.has(this)) reach('handled');
  else reach(deadLetterHasTo ? 'dead-letter-published' : 'retry-published');
  return ack.call(this);
};

/** Kills between the store's response and the handler. */
function newDyingStore(url: string, environment: IdempotencyStoreEnvironment): IdempotencyStore {
  const store = redisIdempotencyStore({ url }).createStore(environment);
  const begin = async (...asked: Parameters<IdempotencyStore['begin']>): Promise<BeginOutcome> => {
    const outcome = await store.begin(...asked);
    if (outcome.state === 'acquired') reach('begun');
    return outcome;
  };
  return {
    begin,
    renew: (...asked) => store.renew(...asked),
    complete: (...asked) => store.complete(...asked),
    release: (...asked) => store.release(...asked),
    close: () => store.close!(),
  };
}

const { redisUrl } = settings;
const dyingStore: IdempotencyStoreDefinition = {
  validate: () => [],
  createStore: (environment) => newDyingStore(redisUrl!, environment),
};
const idempotency = redisUrl === undefined ? undefined : { store: dyingStore, leaseMs };
const MaybeIdempotent = (): MethodDecorator & ClassDecorator =>
  redisUrl === undefined ? () => {} : Idempotent();

@Controller()
@MaybeIdempotent()
class Worker {
  @EventPattern<string>('work')
  @Retry({ maxRetries: 0, redeliverDelaysMs: retryHasTo ? [redeliverDelayMs] : [] })
  async work(@Payload() { n }: { n: number }, @Ctx() { attempt }: StorkContext): Promise<void> {
    report('start', { n, attempt });
    reach('running');
    await new Promise((resolve) => setTimeout(resolve, handlerMs));
    if (deadLetterHasTo || (retryHasTo && attempt === 1)) {
      report('failed', { n, attempt });
      throw new Error('not today');
    }
    report('end', { n, attempt });
  }
}

function transport(): TransportDefinition {
  const { broker, address, source } = settings;
  const reconnect = { delayMs: 20, maxDelayMs: 200 };
  if (broker === 'rabbitmq') return rabbitmq({ url: address, queue: source, concurrency, reconnect });
  return kafka({
    brokers: address.split(','),
    groupId: source,
    topic: source,
    patternHeader: 'stork-pattern',
    fromBeginning: true,
    concurrency,
    sessionTimeoutMs: 12_000,
    heartbeatIntervalMs: 500,
    reconnect,
  });
}

@Module({
  imports: [StorkModule.forRoot({ transports: { main: transport() }, idempotency })],
  controllers: [Worker],
})
class WorkerModule {}

const app = await NestFactory.createMicroservice(WorkerModule, { ...storkMicroservice(), logger: false });
process.once('SIGTERM', () => void app.close().then(() => process.exit(0)));
await app.listen();
report('ready');
