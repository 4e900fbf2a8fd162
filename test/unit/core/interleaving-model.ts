import { DeliveryDispatcher } from '../../../lib/core/dispatch/delivery-dispatcher.js';
import { newPipeline } from '../../../lib/core/consume/pipeline.js';
import { requeue } from '../../../lib/core/consume/settlement.js';
import type { HandlerAttempt } from '../../../lib/core/consume/handler-attempt.js';
import { headerNames, readCount, readText, readTime } from '../../../lib/core/message/headers.js';
import type { MessageHeaders } from '../../../lib/core/message/headers.js';
import {
  Delivery,
  SourceSession,
  type DeliveryMode,
  type DeliverySource,
  type RepublishedMessage,
} from '../../../lib/core/port/delivery.js';
import type { Subscription } from '../../../lib/core/port/driver.js';
import { RetryTimers } from '../../../lib/core/retry/retry-timers.js';
import { maxAttemptsOf } from '../../../lib/core/retry/retry-policy.js';
import { resolveRetry, type RetryPolicy } from '../../../lib/core/retry/retry-options.js';
import type { Failure } from '../../../lib/core/runtime/failure.js';
import { sleep } from '../../../lib/core/runtime/clock.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import { newMessage } from './harness.js';
import { failure, newBench, TestHandler } from './pipeline-harness.js';

/** What one call of a handler does. */
export interface Step {
  readonly kind: 'succeed' | 'throw' | 'ack' | 'nack' | 'retry' | 'dead-letter';
  /** Duration of the call. */
  readonly takesMs: number;
  /** The call ends when its delivery is aborted. */
  readonly heedsAbort: boolean;
  /** Of `retry`. Undefined: as the policy says. */
  readonly delayMs?: number | undefined;
  /** The call throws after its decision. */
  readonly thenThrows: boolean;
  /** Under `manual`: when the decision comes after the call has returned. Undefined: before it returns. */
  readonly decidesAfterMs: number | undefined;
}

export interface Interruption {
  readonly what: 'loss' | 'shutdown' | 'rebalance';
  /** At a time, or some microtasks after something has happened. */
  readonly at: { readonly ms: number } | { readonly happening: number; readonly microtasks: number };
  /** Time limit of a shutdown. */
  readonly limitMs: number;
  /** Whether messages that were being republished at a loss are stored. */
  readonly storesUnconfirmed: boolean;
}

export interface Scenario {
  readonly source: 'queue' | 'log';
  readonly mode: Exclude<DeliveryMode, 'at-most-once'>;
  readonly concurrency: number;
  readonly retry: Pick<RetryPolicy, 'maxRetries' | 'delayMs' | 'redeliverDelaysMs'>;
  readonly republish: { readonly takesMs: number; readonly refusals: number };
  /** Per event: its key and, per handler, what its calls do; later calls succeed. */
  readonly events: readonly {
    readonly key: string | undefined;
    readonly steps: readonly (readonly Step[])[];
  }[];
  readonly interruptions: readonly Interruption[];
}

const limitOfLastDrainMs = 5_000;
const deliveryLimit = 3;
const reconnectMs = 10;

/** What becomes of a message for one of its handlers. */
type Fate =
  /** Failed, with an in-process attempt to come. */
  'waiting' | 'done' | 'redelivered' | 'dead' | 'requeued';

/** Attempts of one handler from a first delivery on, its redeliveries included. */
interface Progress {
  number: number;
  firstFailedAt: number | undefined;
  isDone: boolean;
}

/**
 * A message and the redeliveries that follow from its failures. A message that is delivered again begins
 * another chain.
 */
class Chain {
  readonly #progress = new Map<string, Progress>();

  of(handler: string, headers: MessageHeaders): Progress {
    let progress = this.#progress.get(handler);
    if (progress === undefined) {
      const number = (readCount(headers, headerNames.attempt) ?? 1) - 1;
      progress = { number, firstFailedAt: readTime(headers, headerNames.firstFailedAt), isDone: false };
      this.#progress.set(handler, progress);
    }
    return progress;
  }
}

interface Stored {
  readonly id: number;
  readonly event: number;
  readonly headers: MessageHeaders;
  /** Handlers that the message is for. */
  readonly handlers: readonly string[];
  /** Undefined once it has been delivered: the next delivery begins a chain. */
  chain: Chain | undefined;
  acks: number;
}

interface Call {
  number: number;
  isRunning: boolean;
  fate: Fate | undefined;
}

/** A delivery, and what the handlers and the source have done with it. */
class Delivered {
  readonly calls = new Map<string, Call>();
  readonly confirmed: RepublishedMessage[] = [];
  readonly stored: Stored;
  readonly consumer: Consumer;
  chain: Chain;
  settlement: 'ack' | 'requeue' | undefined;
  republishing = 0;
  /** True once a republish was refused: the message may wait for the next one. */
  isRefused = false;
  /** Since the previous turn of the event loop, or longer. */
  isAborted = false;

  constructor(delivery: Delivery, stored: Stored, consumer: Consumer) {
    delivery.onAbort(() => setImmediate(() => (this.isAborted = true)));
    this.stored = stored;
    this.consumer = consumer;
    this.chain = stored.chain ?? new Chain();
    stored.chain = undefined;
  }

  get isRunning(): boolean {
    return [...this.calls.values()].some((call) => call.isRunning);
  }
}

/** One process of the service: a dispatcher with the pipeline behind it, from its start to its end. */
class Consumer {
  readonly dispatcher: DeliveryDispatcher;
  readonly delivered = new Map<Delivery, Delivered>();
  readonly #world: World;
  readonly #source: DeliverySource;
  #session = new SourceSession();
  #flow: 'open' | 'paused' | 'away' | 'stopped' = 'open';
  #isPaused = false;
  #draining: Promise<void> | undefined;

  constructor(world: World) {
    this.#world = world;
    const { scenario, clock } = world;
    const retryTimers = new RetryTimers(clock);
    const isLog = scenario.source === 'log';
    const capabilities = { requeue: isLog ? ('in-process' as const) : ('broker' as const) };
    const { scope, driver } = newBench(
      world.handlers,
      {
        capabilities,
        retryTimers,
        deliveryLimit: isLog ? deliveryLimit : Infinity,
        onRepublishBlocked: (why) => void this.dispatcher.onRepublishBlocked(why !== undefined),
      },
      clock,
    );
    driver.roundDelay = (delayMs) => delayMs;
    this.dispatcher = new DeliveryDispatcher({
      concurrency: scenario.concurrency,
      maxWaiting: scenario.concurrency * 10,
      pausesWithoutRedelivery: isLog,
      pausesWhileRepublishBlocked: !isLog,
      clock,
      retryTimers,
      process: newPipeline(scope),
      returnToSource: (delivery) => requeue(delivery, scope),
    });
    this.#source = this.#newSource();
    this.dispatcher.attach(this.#newSubscription());
    this.receive();
  }

  get isOpen(): boolean {
    return this.#flow !== 'stopped';
  }

  /** Takes what the broker has. */
  receive(): void {
    if (this.#flow !== 'open' || this.#isPaused) return;
    for (const stored of this.#world.ready.splice(0)) {
      const { key } = this.#world.scenario.events[stored.event]!;
      const delivery = new Delivery({
        message: newMessage({ messageId: `event ${stored.event}`, headers: stored.headers, key }),
        session: this.#session,
        orderingKey: key,
        redelivered: false,
        tag: stored.id,
        source: this.#source,
        mode: this.#world.scenario.mode,
      });
      this.delivered.set(delivery, new Delivered(delivery, stored, this));
      this.dispatcher.deliver(delivery);
    }
  }

  /** The connection is cut, and opened again unless the consumer has stopped. */
  lose(): void {
    if (this.#flow !== 'stopped') this.#flow = 'away';
    this.#endSession();
    this.#world.clock.setTimer(reconnectMs, () => this.#reopen());
  }

  /** The partition goes to another consumer and comes back, as in two rebalances of a group. */
  async rebalance(limitMs: number): Promise<void> {
    if (this.#flow !== 'open') return;
    this.#flow = 'away';
    const session = this.#session;
    await Promise.race([this.dispatcher.quiesce(), sleep(this.#world.clock, limitMs)]);
    // The connection may have been cut meanwhile.
    if (session === this.#session) this.#endSession();
    this.dispatcher.resume();
    this.#reopen();
  }

  async shutDown(limitMs: number): Promise<void> {
    this.#draining ??= this.#shutDown(limitMs);
    return this.#draining;
  }

  async #shutDown(limitMs: number): Promise<void> {
    const { clock, faults } = this.#world;
    const begun = clock.now();
    let isLimitReached = false;
    const cancel = clock.setTimer(limitMs, () => {
      isLimitReached = true;
      this.#checkAwaited();
    });
    await this.dispatcher.drain(limitMs, () => {});
    cancel();
    if (clock.now() > begun + limitMs) faults.add(`the drain took longer than ${limitMs} ms`);
    for (const [{ session }, { settlement, republishing, stored }] of this.delivered) {
      if (!session.isActive || settlement !== undefined || (isLimitReached && republishing > 0)) continue;
      faults.add(`message ${stored.id} is unsettled after the drain`);
    }
    if (!isLimitReached && this.dispatcher.inFlight > 0) faults.add('messages are in flight after the drain');
    this.#flow = 'stopped';
    this.#endSession();
  }

  /** A drain waits only for handlers, for decisions of `manual` handlers, and for republishes. */
  #checkAwaited(): void {
    for (const [{ session }, { settlement, calls, stored, republishing, isRefused }] of this.delivered) {
      if (!session.isActive || settlement !== undefined || republishing > 0 || isRefused) continue;
      const isUndecided = [...calls.values()].some(({ fate }) => fate === undefined);
      if (!isUndecided) this.#world.faults.add(`the drain waits for message ${stored.id}, and nothing runs`);
    }
  }

  #reopen(): void {
    if (this.#flow !== 'away') return;
    this.#session = new SourceSession();
    this.#flow = 'open';
    this.receive();
  }

  /** The broker has the unsettled messages again. */
  #endSession(): void {
    const session = this.#session;
    if (!session.isActive) return;
    session.end();
    for (const [delivery, { stored, settlement }] of this.delivered) {
      if (delivery.session !== session || settlement === 'ack') continue;
      // A queue has the requeued ones already.
      if (settlement === undefined || this.#world.scenario.source === 'log') this.#world.ready.push(stored);
      this.delivered.get(delivery)!.settlement ??= 'requeue';
    }
    this.#world.deliverReady();
  }

  #newSubscription(): Subscription {
    return {
      pause: () => void (this.#isPaused = true),
      resume: () => {
        this.#isPaused = false;
        this.receive();
      },
      stop: async () => void (this.#flow = 'stopped'),
      close: async () => {},
    };
  }

  #newSource(): DeliverySource {
    const world = this.#world;
    const settle = (delivery: Delivery, how: 'ack' | 'requeue'): Delivered => {
      const delivered = this.delivered.get(delivery)!;
      const { stored, settlement } = delivered;
      if (settlement !== undefined) world.faults.add(`message ${stored.id}: ${how} after ${settlement}`);
      if (!delivery.session.isActive) world.faults.add(`message ${stored.id}: ${how} in a lost session`);
      delivered.settlement = how;
      world.happen();
      return delivered;
    };
    return {
      ack: (delivery) => {
        const delivered = settle(delivery, 'ack');
        if (++delivered.stored.acks > 1) world.faults.add(`message ${delivered.stored.id}: a second ack`);
        world.checkAck(delivery, delivered);
      },
      ackEarly: () => Promise.reject(new Error('not of this test')),
      requeue: (delivery) => {
        const delivered = settle(delivery, 'requeue');
        world.checkRequeue(delivery, delivered);
        if (world.scenario.source === 'log') return;
        world.ready.push(delivered.stored);
        queueMicrotask(() => world.deliverReady());
      },
      republish: (delivery, message) => world.republish(delivery, message, this.delivered.get(delivery)!),
    };
  }
}

/** The broker, the handlers and the processes of one scenario, and every invariant that was violated. */
export class World {
  readonly scenario: Scenario;
  readonly clock = new VirtualClock();
  readonly faults = new Set<string>();
  readonly ready: Stored[] = [];
  readonly handlers: readonly TestHandler[];
  readonly #stored: Stored[] = [];
  readonly #dead: { readonly event: number; readonly handler: string | undefined }[] = [];
  readonly #done = new Set<string>();
  readonly #calls = new Map<string, number>();
  readonly #consumers: Consumer[] = [];
  readonly #retry: RetryPolicy;
  #happenings = 0;
  #refusals: number;
  #storesUnconfirmed = true;
  #isLastProcess = false;

  constructor(scenario: Scenario) {
    this.scenario = scenario;
    this.#refusals = scenario.republish.refusals;
    this.#retry = resolveRetry({ jitter: 'none', ...scenario.retry });
    const count = scenario.events[0]!.steps.length;
    this.handlers = Array.from(
      { length: count },
      (_, i) =>
        new TestHandler('event', `handler ${i}`, 'order.paid', (attempt) => this.#run(i, attempt), {
          retry: this.#retry,
        }),
    );
  }

  /** Runs the scenario to its end; then a last process handles what is left. */
  async run(): Promise<readonly string[]> {
    const { events, interruptions } = this.scenario;
    for (const [event] of events.entries()) this.#store(event, {}, undefined);
    for (const interruption of interruptions) {
      if ('ms' in interruption.at)
        this.clock.setTimer(interruption.at.ms, () => this.#interrupt(interruption));
    }
    this.#open();
    await this.clock.advance(60_000);
    await this.#replace(limitOfLastDrainMs);
    this.#isLastProcess = true;
    await this.clock.advance(60_000);
    await this.#replace(limitOfLastDrainMs);
    this.#checkEnd();
    return [...this.faults];
  }

  /** Something happened that an interruption may follow. */
  happen(): void {
    const happening = this.#happenings++;
    for (const interruption of this.scenario.interruptions) {
      const { at } = interruption;
      if ('happening' in at && at.happening === happening)
        afterMicrotasks(at.microtasks, () => this.#interrupt(interruption));
    }
  }

  deliverReady(): void {
    for (const consumer of this.#consumers) consumer.receive();
  }

  async republish({ session }: Delivery, message: RepublishedMessage, delivered: Delivered): Promise<void> {
    const { takesMs } = this.scenario.republish;
    this.happen();
    delivered.republishing++;
    try {
      if (takesMs > 0) await sleep(this.clock, takesMs);
      if (this.#refusals > 0) {
        this.#refusals--;
        delivered.isRefused = true;
        throw new Error('the broker rejects it');
      }
      if (!session.isActive && !this.#storesUnconfirmed) throw new Error('the connection was lost');
      this.#storeRepublished(message, delivered);
      if (!session.isActive) throw new Error('the connection was lost before the confirm');
      delivered.confirmed.push(message);
    } finally {
      delivered.republishing--;
      this.happen();
    }
  }

  /** An acknowledged message is done, or a dead letter or redelivery exists, for each of its handlers. */
  checkAck(delivery: Delivery, { stored, calls, confirmed }: Delivered): void {
    if (delivery.requeuesInProcess > deliveryLimit) {
      const reasons = confirmed.map(({ headers }) => readText(headers, headerNames.deathReason));
      if (reasons.join() !== 'delivery-limit')
        this.#fault(stored, `acknowledged at its limit: ${reasons.join()}`);
      return;
    }
    for (const handler of stored.handlers) {
      const { fate, number } = calls.get(handler) ?? { fate: undefined, number: 0 };
      const found = confirmed
        .filter(({ headers }) => readText(headers, headerNames.handler) === handler)
        .map(({ to, headers }) => `${to} ${readCount(headers, headerNames.attempt)}`)
        .join();
      const expected = {
        done: '',
        redelivered: `redelivery ${number + 1}`,
        dead: `dead-letter ${number}`,
        // A shutdown has interrupted the wait.
        waiting: `redelivery ${number + 1}`,
        requeued: 'a requeue',
      }[fate ?? 'requeued'];
      if (found !== expected)
        this.#fault(stored, `${handler} is ${fate}: acknowledged with "${found}" instead of "${expected}"`);
    }
    const others = confirmed.filter(
      ({ headers }) => !stored.handlers.includes(readText(headers, headerNames.handler) ?? ''),
    );
    if (others.length > 0) this.#fault(stored, 'republished for another handler');
  }

  /**
   * A whole message returns only if its source or the time of the shutdown has ended, a handler has asked
   * for it, or no handler has a result that would be repeated.
   */
  checkRequeue(delivery: Delivery, { stored, calls }: Delivered): void {
    const fates = [...calls.values()].map(({ fate }) => fate);
    if (delivery.aborted || fates.includes('requeued')) return;
    if (fates.every((fate) => fate === 'waiting')) return;
    this.#fault(stored, `requeued whole, while its handlers are: ${fates.join()}`);
  }

  async #run(index: number, attempt: HandlerAttempt): Promise<Failure | undefined> {
    const handler = `handler ${index}`;
    const delivered = this.#deliveredOf(attempt.delivery);
    const call = this.#begin(handler, attempt, delivered);
    const { event } = delivered.stored;
    const step = this.#nextStep(event, index);
    this.happen();
    if (step.takesMs > 0) {
      await sleep(this.clock, step.takesMs, step.heedsAbort ? attempt.delivery.signal : undefined);
    } else await Promise.resolve();
    call.isRunning = false;
    const { delivery } = attempt;
    const isManual = this.scenario.mode === 'manual';
    if (step.kind === 'throw' || (delivery.aborted && step.heedsAbort)) {
      this.#end({ handler, attempt, delivered, call }, 'throw');
      this.happen();
      return failure('thrown', 'retries-exhausted');
    }
    const decide = (): void => this.#decide({ handler, attempt, delivered, call }, step);
    if (step.kind === 'succeed') {
      if (!isManual && !delivery.aborted) this.#end({ handler, attempt, delivered, call }, 'succeed');
    } else if (isManual && step.decidesAfterMs !== undefined && !step.thenThrows) {
      this.clock.setTimer(step.decidesAfterMs, decide);
    } else decide();
    this.happen();
    // Without a decision a throw under `manual` is a failure, and with one it changes nothing.
    return step.thenThrows && step.kind !== 'succeed' ? failure('thrown after') : undefined;
  }

  #decide(run: Ended, step: Step): void {
    const { attempt, call } = run;
    const before = call.fate;
    const decision =
      step.kind === 'ack'
        ? ({ kind: 'ack' } as const)
        : step.kind === 'nack'
          ? ({ kind: 'requeue' } as const)
          : step.kind === 'retry'
            ? ({ kind: 'retry', delayMs: step.delayMs } as const)
            : ({ kind: 'reject' } as const);
    const progress = { ...this.#progressOf(run) };
    const isDone = this.#done.has(`${run.delivered.stored.event} ${run.handler}`);
    // Recorded first: `ack` may settle the message before `decide` returns.
    this.#end(run, step.kind, step.delayMs);
    if (attempt.decide(decision)) return;
    call.fate = before;
    Object.assign(this.#progressOf(run), progress);
    if (!isDone) this.#done.delete(`${run.delivered.stored.event} ${run.handler}`);
    if (!attempt.delivery.aborted && run.delivered.settlement === undefined)
      this.#fault(run.delivered.stored, `${run.handler}: its ${step.kind} was refused`);
  }

  #end(run: Ended, how: Step['kind'], delayMs?: number): void {
    const { attempt, delivered, call, handler } = run;
    const progress = this.#progressOf(run);
    if (how === 'succeed' || how === 'ack') {
      progress.isDone = true;
      call.fate = 'done';
      this.#done.add(`${delivered.stored.event} ${handler}`);
    } else if (how === 'nack') call.fate = 'requeued';
    else {
      progress.firstFailedAt ??= this.clock.now();
      call.fate = how === 'dead-letter' ? 'dead' : this.#fateAfter(attempt.number, delayMs);
    }
  }

  #fateAfter(number: number, delayMs: number | undefined): Fate {
    const { maxRetries } = this.#retry;
    if (number >= maxAttemptsOf(this.#retry)) return 'dead';
    return delayMs === undefined && number <= maxRetries ? 'waiting' : 'redelivered';
  }

  #begin(handler: string, attempt: HandlerAttempt, delivered: Delivered): Call {
    const { stored, calls, consumer } = delivered;
    const before = calls.get(handler);
    const first = readCount(stored.headers, headerNames.attempt) ?? 1;
    const isNacked = [...calls.values()].some(({ fate }) => fate === 'requeued');
    if (before !== undefined && isNacked && attempt.number === first) {
      // The log processes the message again in process.
      calls.clear();
      delivered.chain = new Chain();
    }
    const progress = delivered.chain.of(handler, stored.headers);
    if (progress.isDone) this.#fault(stored, `${handler} runs again after its success`);
    if (attempt.number !== progress.number + 1)
      this.#fault(stored, `${handler}: attempt ${attempt.number} after ${progress.number}`);
    if (attempt.number > attempt.maxAttempts)
      this.#fault(stored, `${handler}: attempt ${attempt.number} of ${attempt.maxAttempts}`);
    if (attempt.firstFailedAt !== progress.firstFailedAt)
      this.#fault(
        stored,
        `${handler}: firstFailedAt ${attempt.firstFailedAt}, expected ${progress.firstFailedAt}`,
      );
    // An attempt that is about to start when its delivery is aborted may start: its signal is aborted.
    if (delivered.isAborted || !(attempt.delivery.open || attempt.delivery.aborted))
      this.#fault(stored, `${handler} starts too late`);
    progress.number = attempt.number;
    const call: Call = { number: attempt.number, isRunning: true, fate: undefined };
    calls.set(handler, call);
    this.#checkConcurrency(consumer, attempt.delivery);
    return call;
  }

  #checkConcurrency(consumer: Consumer, started: Delivery): void {
    const running = [...consumer.delivered].filter(([, delivered]) => delivered.isRunning);
    if (running.length > this.scenario.concurrency) this.faults.add(`${running.length} messages at once`);
    for (const [delivery, { calls, settlement, stored }] of consumer.delivered) {
      if (delivery === started || delivery.orderingKey === undefined) continue;
      if (delivery.orderingKey !== started.orderingKey || delivery.aborted) continue;
      if (this.scenario.mode === 'manual' || calls.size === 0 || settlement !== undefined) continue;
      this.#fault(stored, 'another message of its key started before it was settled');
    }
  }

  #nextStep(event: number, index: number): Step {
    const id = `${event} ${index}`;
    const call = this.#calls.get(id) ?? 0;
    this.#calls.set(id, call + 1);
    const step = this.#isLastProcess ? undefined : this.scenario.events[event]!.steps[index]![call];
    return step ?? (this.scenario.mode === 'manual' ? acks : succeeds);
  }

  #progressOf({ delivered, handler }: Ended): Progress {
    return delivered.chain.of(handler, delivered.stored.headers);
  }

  #deliveredOf(delivery: Delivery): Delivered {
    return this.#consumers
      .map(({ delivered }) => delivered.get(delivery))
      .find((found) => found !== undefined)!;
  }

  #open(): void {
    this.#consumers.push(new Consumer(this));
  }

  #interrupt({ what, limitMs, storesUnconfirmed }: Interruption): void {
    const consumer = this.#consumers.at(-1)!;
    this.#storesUnconfirmed = storesUnconfirmed;
    if (what === 'shutdown') void this.#replace(limitMs);
    else if (what === 'loss') consumer.lose();
    else void consumer.rebalance(limitMs);
  }

  /** A process ends, and the next one starts. */
  async #replace(limitMs: number): Promise<void> {
    const consumer = this.#consumers.at(-1)!;
    let isDrained = false;
    const drained = consumer.shutDown(limitMs).then(() => (isDrained = true));
    if (limitMs === limitOfLastDrainMs) {
      await this.clock.advance(limitMs);
      if (!isDrained) return void this.faults.add('the drain does not end');
    }
    await drained;
    if (this.#consumers.at(-1) === consumer) this.#open();
  }

  #store(event: number, headers: MessageHeaders, chain: Chain | undefined): void {
    const handler = readText(headers, headerNames.handler);
    const handlers = handler === undefined ? this.handlers.map(({ id }) => id) : [handler];
    const stored: Stored = { id: this.#stored.length, event, headers, handlers, chain, acks: 0 };
    this.#stored.push(stored);
    this.ready.push(stored);
    this.deliverReady();
  }

  #storeRepublished(message: RepublishedMessage, { stored, chain }: Delivered): void {
    const { event } = stored;
    if (message.to === 'dead-letter') {
      const handler = readText(message.headers, headerNames.handler);
      if (handler !== undefined) {
        const { firstFailedAt } = chain.of(handler, stored.headers);
        if (readTime(message.headers, headerNames.firstFailedAt) !== firstFailedAt)
          this.#fault(stored, `the dead letter of ${handler} has another firstFailedAt`);
      }
      this.#dead.push({ event, handler });
    } else if (message.delayMs === 0) this.#store(event, message.headers, chain);
    else this.clock.setTimer(message.delayMs, () => this.#store(event, message.headers, chain));
  }

  #checkEnd(): void {
    const last = this.#consumers.pop()!;
    if (this.ready.length + last.delivered.size > 0) this.faults.add('messages are left in the source');
    for (const stored of this.#stored)
      if (stored.acks !== 1) this.#fault(stored, `acknowledged ${stored.acks} times`);
    for (const { dispatcher } of this.#consumers) {
      const { inFlight, running, deferred } = dispatcher;
      if (inFlight + running + deferred !== 0)
        this.faults.add(`at the end: ${inFlight} in flight, ${running} running, ${deferred} deferred`);
    }
    if (this.clock.pendingTimers > 0) this.faults.add(`${this.clock.pendingTimers} timers are left`);
    for (const [event] of this.scenario.events.entries()) {
      for (const { id } of this.handlers) {
        const isDead = this.#dead.some((dead) => dead.event === event && (dead.handler ?? id) === id);
        if (!isDead && !this.#done.has(`${event} ${id}`)) this.faults.add(`event ${event} is lost for ${id}`);
      }
    }
  }

  #fault({ id, event }: Stored, what: string): void {
    this.faults.add(`message ${id} of event ${event}: ${what}`);
  }
}

interface Ended {
  readonly handler: string;
  readonly attempt: HandlerAttempt;
  readonly delivered: Delivered;
  readonly call: Call;
}

const acks: Step = {
  kind: 'ack',
  takesMs: 0,
  heedsAbort: true,
  thenThrows: false,
  decidesAfterMs: undefined,
};
const succeeds: Step = { ...acks, kind: 'succeed' };

function afterMicrotasks(count: number, work: () => void): void {
  queueMicrotask(() => (count === 0 ? work() : afterMicrotasks(count - 1, work)));
}
