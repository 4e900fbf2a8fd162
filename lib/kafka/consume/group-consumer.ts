import { backoffMs } from '../../core/runtime/clock.js';
import { settlesWithin, withResolvers } from '../../core/runtime/with-timeout.js';
import { ConnectionStateCell } from '../../core/port/connection-state.js';
import type { Subscription } from '../../core/port/driver.js';
import { messageOf } from '../../core/runtime/errors.js';
import { deadLetterTopic, type ConsumedTopic } from '../../driver-kit/log/topic-names.js';
import { KafkaClientError, type ConsumerSettings } from '../client/client.js';
import { Membership, type MembershipFields } from './membership.js';
import type { RetryTopics } from '../topics/retry-topics.js';

export interface GroupConsumerFields extends Omit<
  MembershipFields,
  'settings' | 'consumedTopics' | 'isNewTopic' | 'isFlowing' | 'crashed'
> {
  readonly settings: Omit<ConsumerSettings, 'topics'>;
  readonly topicRefreshMs: number;
  /** Whether we made the topic ourselves. */
  isNewTopic(topic: string): boolean;
  readonly retries: RetryTopics;
  /** Makes what is missing beside topics that were found later, or that was deleted. */
  declareManagedTopics(topics: readonly string[]): Promise<void>;
}

/** Topics as they are now. */
interface FoundTopics {
  readonly existing: readonly string[];
  /** Named, and not there. */
  readonly missing: readonly string[];
  /** Retry topics of those that exist. */
  readonly consumedTopics: ReadonlyMap<string, ConsumedTopic>;
}

/** How long the first start may take before the application goes on without it. */
const startLimitMs = 30_000;
const longestMissingPollMs = 5_000;
/** A membership that has lasted so long works. */
const steadyMs = 10_000;

/** Consumes as a member of a group: joins, and joins anew after every loss, with the topics that exist then. */
export class GroupConsumer implements Subscription {
  readonly state = new ConnectionStateCell();
  readonly #fields: GroupConsumerFields;
  readonly #late = new Set<string>();
  /** Those whose companions could not be made since the last join. */
  #bare: readonly string[] = [];
  /** Topics that were there, or were not, when we last looked. */
  #known: FoundTopics | undefined;
  #membership: Membership | undefined;
  readonly #started = withResolvers<void>();
  #interrupt: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #toldMissing: string | undefined;
  #paused = false;
  #stopped = false;
  /** Whether the last membership ended at records that nobody here can unpack. */
  #isUnreadable = false;
  #closed: Promise<void> | undefined;

  constructor(fields: GroupConsumerFields) {
    this.#fields = fields;
  }

  /** Resolves when it reads, or when that takes too long to wait for. Rejects where waiting cannot help. */
  async start(): Promise<void> {
    const { clock, logger, name } = this.#fields;
    this.#running = this.#supervise();
    this.#started.promise.catch(() => {});
    const started = this.#started.promise.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(await settlesWithin(clock, started, startLimitMs))) {
      logger.warn(`${name}: not reading yet after ${startLimitMs} ms, goes on trying`);
      return;
    }
    const error = await started;
    if (error !== undefined) throw error;
  }

  reads(topic: string): boolean {
    return this.#membership?.reads(topic) ?? false;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (!this.#stopped) this.#membership?.handOver();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#membership?.stop();
    // Without a membership there is nothing to keep.
    if (this.#membership === undefined) this.#interrupt?.();
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  async #close(): Promise<void> {
    await this.stop();
    this.#interrupt?.();
    await this.#membership?.close();
    await this.#running;
    this.state.move({ value: 'closed' });
  }

  async #supervise(): Promise<void> {
    const { clock } = this.#fields;
    let attempt = 0;
    while (!this.#stopped) {
      // Looking for topics again and again is no news.
      if (this.state.current.value !== 'blocked') this.state.move({ value: 'connecting' });
      let readsSince = Infinity;
      try {
        await this.#consume(() => {
          readsSince = clock.now();
        });
      } catch (error) {
        attempt = clock.now() - readsSince >= steadyMs ? 1 : attempt + 1;
        await this.#backOff(attempt, error);
      }
    }
  }

  /** One membership, from finding its topics to its end. Rejects where it crashed. */
  async #consume(isReading: () => void): Promise<void> {
    this.#bare = [];
    const topics = await this.#findTopics();
    // A shutdown that came meanwhile has found nothing to close.
    if (this.#stopped) return;
    if (topics.existing.length === 0) {
      this.#showReady(topics);
      // There is nothing to wait for at a start.
      this.#started.resolve();
      await this.#waitFor(this.#refreshMs(topics));
      return;
    }
    const ended = withResolvers<void>();
    // It may reject before anybody waits.
    ended.promise.catch(() => {});
    this.#interrupt = ended.resolve;
    const membership = new Membership({
      ...this.#fields,
      settings: { ...this.#fields.settings, topics: [...topics.existing, ...topics.consumedTopics.keys()] },
      consumedTopics: topics.consumedTopics,
      isNewTopic: (topic) => this.#late.has(topic) || this.#fields.isNewTopic(topic),
      isFlowing: () => !this.#paused && !this.#stopped,
      crashed: ended.reject,
    });
    this.#membership = membership;
    try {
      await membership.start();
      isReading();
      void this.#showReading(topics, ended.promise);
      this.#started.resolve();
      await this.#untilChanged(topics, ended.promise);
      if (!this.#stopped) await membership.leave();
    } finally {
      // A shutdown closes it in its own time.
      if (!this.#stopped) {
        await membership.close();
        this.#membership = undefined;
      }
    }
  }

  /** Resolves when other topics are there to be read; rejects with `ended`. A member with other delays may make retry topics and leave. */
  async #untilChanged(topics: FoundTopics, ended: Promise<void>): Promise<void> {
    const { clock } = this.#fields;
    const over = ended.catch(() => {});
    while (!this.#stopped && !(await settlesWithin(clock, over, this.#refreshMs(topics)))) {
      const now = await this.#findTopics().catch(() => undefined);
      if (now === undefined) continue;
      if (now.existing.some((topic) => !topics.existing.includes(topic))) return;
      if ([...now.consumedTopics.keys()].some((topic) => !topics.consumedTopics.has(topic))) return;
    }
    return ended;
  }

  #refreshMs({ missing }: FoundTopics): number {
    const { topicRefreshMs } = this.#fields;
    return missing.length > 0 ? Math.min(topicRefreshMs, longestMissingPollMs) : topicRefreshMs;
  }

  async #findTopics(): Promise<FoundTopics> {
    const { selection, retries } = this.#fields;
    const { admin } = this.#fields.client;
    const counts = await admin.partitionCounts(selection.names);
    const names = await admin.topicNames();
    const matching = selection.isOpen ? names.filter((topic) => selection.reads(topic)) : [];
    const existing = [...new Set([...counts.keys(), ...matching])];
    const missing = selection.names.filter((name) => !counts.has(name));
    this.#noteFound(existing);
    const hasMade = await this.#createManagedTopics(existing, names);
    const consumedTopics = retries.among(hasMade ? await admin.topicNames() : names, existing);
    this.#known = { existing, missing, consumedTopics };
    return this.#known;
  }

  /** What is found later was made later, or made again: nothing in it is old. */
  #noteFound(existing: readonly string[]): void {
    if (this.#known === undefined) return;
    const before = new Set(this.#known.existing);
    for (const topic of existing) if (!before.has(topic)) this.#late.add(topic);
  }

  /** Of topics that were found later, and what was deleted. Once for each membership: it may not be allowed. */
  async #createManagedTopics(existing: readonly string[], names: readonly string[]): Promise<boolean> {
    const { retries, logger, name } = this.#fields;
    const there = new Set(names);
    const bare = existing.filter((source) =>
      [deadLetterTopic(source), ...retries.of(source).keys()].some((topic) => !there.has(topic)),
    );
    const found = bare.filter((source) => !this.#bare.includes(source));
    this.#bare = bare;
    if (found.length === 0) return false;
    // Whoever writes there makes the topic then.
    await this.#fields
      .declareManagedTopics(found)
      .catch((error: unknown) => logger.warn(`${name}: ${messageOf(error)}`));
    return true;
  }

  /** Records that could not be unpacked may still be next: only time tells. */
  async #showReading(topics: FoundTopics, ended: Promise<void>): Promise<void> {
    const over = ended.catch(() => {});
    if (this.#isUnreadable && (await settlesWithin(this.#fields.clock, over, steadyMs))) return;
    this.#isUnreadable = false;
    this.#showReady(topics);
  }

  #showReady({ missing }: FoundTopics): void {
    const { logger, name } = this.#fields;
    if (missing.length === 0) {
      this.#toldMissing = undefined;
      return this.state.move({ value: 'ready' });
    }
    const reason = `${missing.length === 1 ? 'this topic does' : 'these topics do'} not exist: ${missing.join(', ')}`;
    if (this.#toldMissing !== reason) logger.warn(`${name}: ${reason}; the others are read`);
    this.#toldMissing = reason;
    this.state.move({ value: 'blocked', reason });
  }

  async #backOff(attempt: number, error: unknown): Promise<void> {
    const { reconnect, random, logger, name } = this.#fields;
    if (this.#stopped) return;
    const failure = error instanceof KafkaClientError ? error.failure : 'unavailable';
    const delayMs = backoffMs(attempt, reconnect, random);
    // The first failure of a start is an answer; a later one may pass.
    if (failure === 'refused') this.#started.reject(error);
    const why = describe(error);
    this.#isUnreadable = failure === 'unsupported-codec';
    if (this.#isUnreadable) this.state.move({ value: 'blocked', reason: why });
    else this.state.move({ value: 'backoff', attempt, delayMs, error: asError(error) });
    if (attempt === 1) logger.warn(`${name}: the consumer has ended and is started again: ${why}`);
    await this.#waitFor(delayMs);
  }

  /** Ends early at a shutdown. */
  async #waitFor(delayMs: number): Promise<void> {
    const woken = withResolvers<void>();
    this.#interrupt = woken.resolve;
    if (!this.#stopped) await settlesWithin(this.#fields.clock, woken.promise, delayMs);
  }
}

function describe(error: unknown): string {
  const isCodec = error instanceof KafkaClientError && error.failure === 'unsupported-codec';
  return isCodec
    ? `${messageOf(error)}; records are packed in it, give the transport a codec by compressionCodecs`
    : messageOf(error);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error));
}
