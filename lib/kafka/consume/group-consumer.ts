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
  'settings' | 'consumedTopics' | 'createdAfterStart' | 'isFlowing' | 'crashed'
> {
  readonly settings: Omit<ConsumerSettings, 'topics'>;
  /** Interval at which topics are listed again, in milliseconds. */
  readonly topicRefreshMs: number;
  /** Whether this transport created the topic itself. */
  hasCreated(topic: string): boolean;
  readonly retries: RetryTopics;
  /** Creates missing retry and dead letter topics of these sources. */
  declareManagedTopics(sources: readonly string[]): Promise<void>;
}

/** The topics at the time of one listing. */
interface FoundTopics {
  readonly existing: readonly string[];
  /** Topics that handlers name and that do not exist. */
  readonly missing: readonly string[];
  /** Retry topics of the existing ones. */
  readonly consumedTopics: ReadonlyMap<string, ConsumedTopic>;
}

/** How long the first start may take before the application boots without it. */
const startLimitMs = 30_000;
const maxMissingPollMs = 5_000;
/** A membership of this age counts as stable: its crash restarts the back-off. */
const stableMs = 10_000;
/** Share of the time limit of a close for the last commit; the rest is for LeaveGroup. */
const commitShare = 2 / 3;

/**
 * Consumes as a member of a group, and joins again after a crash and for topics that were created later.
 */
export class GroupConsumer implements Subscription {
  readonly state = new ConnectionStateCell();
  readonly #fields: GroupConsumerFields;
  readonly #createdAfterStart = new Set<string>();
  /** Sources whose missing topics were declared since the last join, and not created. */
  #incompleteSources: readonly string[] = [];
  #lastFound: FoundTopics | undefined;
  #membership: Membership | undefined;
  readonly #started = withResolvers<void>();
  #interrupt: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #lastMissingReason: string | undefined;
  #paused = false;
  #stopped = false;
  /** Whether the last membership crashed at records of an unsupported codec. */
  #hasUnsupportedCodec = false;
  #closed: Promise<void> | undefined;

  constructor(fields: GroupConsumerFields) {
    this.#fields = fields;
  }

  /** Resolves when messages are consumed, or after the start limit. Rejects if a retry cannot help. */
  async start(): Promise<void> {
    const { clock, logger, name } = this.#fields;
    this.#running = this.#supervise();
    this.#started.promise.catch(() => {});
    const started = this.#started.promise.then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(await settlesWithin(clock, started, startLimitMs))) {
      logger.warn(`${name}: not consuming after ${startLimitMs} ms; retrying in the background`);
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
    if (!this.#stopped) this.#membership?.dispatch();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#membership?.stop();
    // A membership stays until `close`, so that messages can be settled. Without one, only a wait is ended.
    if (this.#membership === undefined) this.#interrupt?.();
  }

  close(limitMs: number): Promise<void> {
    this.#closed ??= this.#close(limitMs);
    return this.#closed;
  }

  async #close(limitMs: number): Promise<void> {
    await this.stop();
    this.#interrupt?.();
    await this.#membership?.close(limitMs * commitShare);
    await this.#running;
    this.state.move({ value: 'closed' });
  }

  async #supervise(): Promise<void> {
    const { clock } = this.#fields;
    let attempt = 0;
    while (!this.#stopped) {
      // Also runs at each poll for missing topics, during which the state stays `blocked`.
      if (this.state.current.value !== 'blocked') this.state.move({ value: 'connecting' });
      let consumingSince = Infinity;
      try {
        await this.#runMembership(() => {
          consumingSince = clock.now();
        });
      } catch (error) {
        attempt = clock.now() - consumingSince >= stableMs ? 1 : attempt + 1;
        await this.#backOff(attempt, error);
      }
    }
  }

  /** One membership, from listing its topics to its end. Rejects if it crashes. */
  async #runMembership(isConsuming: () => void): Promise<void> {
    this.#incompleteSources = [];
    const topics = await this.#findTopics();
    // `close` may have been called meanwhile, and found no membership to close.
    if (this.#stopped) return;
    if (topics.existing.length === 0) {
      // The boot does not wait for topics to be created: the state `blocked` names the missing ones.
      this.#showReady(topics);
      this.#started.resolve();
      await this.#waitFor(this.#refreshMs(topics));
      return;
    }
    const ended = withResolvers<void>();
    // A crash may reject it before it is awaited.
    ended.promise.catch(() => {});
    this.#interrupt = ended.resolve;
    const membership = new Membership({
      ...this.#fields,
      settings: { ...this.#fields.settings, topics: [...topics.existing, ...topics.consumedTopics.keys()] },
      consumedTopics: topics.consumedTopics,
      createdAfterStart: (topic) => this.#createdAfterStart.has(topic) || this.#fields.hasCreated(topic),
      isFlowing: () => !this.#paused && !this.#stopped,
      crashed: ended.reject,
    });
    this.#membership = membership;
    try {
      await membership.start();
      isConsuming();
      void this.#showConsuming(topics, ended.promise);
      this.#started.resolve();
      await this.#untilTopicsChange(topics, ended.promise);
      if (!this.#stopped) await membership.leave();
    } finally {
      // During a shutdown, `close` closes the membership after its messages are settled.
      if (!this.#stopped) {
        await membership.close();
        this.#membership = undefined;
      }
    }
  }

  /**
   * Resolves when a topic to be consumed was created; rejects with `ended`. Retry topics count too: a
   * member with other delays may create some and leave the group with records in them.
   */
  async #untilTopicsChange(topics: FoundTopics, ended: Promise<void>): Promise<void> {
    const { clock } = this.#fields;
    const settled = ended.catch(() => {});
    while (!this.#stopped && !(await settlesWithin(clock, settled, this.#refreshMs(topics)))) {
      const now = await this.#findTopics().catch(() => undefined);
      if (now === undefined) continue;
      if (now.existing.some((topic) => !topics.existing.includes(topic))) return;
      if ([...now.consumedTopics.keys()].some((topic) => !topics.consumedTopics.has(topic))) return;
    }
    return ended;
  }

  #refreshMs({ missing }: FoundTopics): number {
    const { topicRefreshMs } = this.#fields;
    return missing.length > 0 ? Math.min(topicRefreshMs, maxMissingPollMs) : topicRefreshMs;
  }

  async #findTopics(): Promise<FoundTopics> {
    const { selection, retries } = this.#fields;
    const { admin } = this.#fields.client;
    const counts = await admin.partitionCounts(selection.names);
    const names = await admin.topicNames();
    const matching = selection.isOpen ? names.filter((topic) => selection.reads(topic)) : [];
    const existing = [...new Set([...counts.keys(), ...matching])];
    const missing = selection.names.filter((name) => !counts.has(name));
    this.#noteCreated(existing);
    const hasDeclared = await this.#declareMissingTopics(existing, names);
    const consumedTopics = retries.findExisting(hasDeclared ? await admin.topicNames() : names, existing);
    this.#lastFound = { existing, missing, consumedTopics };
    return this.#lastFound;
  }

  /** A topic that was missing in the last listing was created since: all of its records are new. */
  #noteCreated(existing: readonly string[]): void {
    if (this.#lastFound === undefined) return;
    const before = new Set(this.#lastFound.existing);
    for (const topic of existing) if (!before.has(topic)) this.#createdAfterStart.add(topic);
  }

  /**
   * Declares retry and dead letter topics of new sources, and deleted ones. Once per source and membership:
   * permission to create topics may be missing.
   */
  async #declareMissingTopics(existing: readonly string[], names: readonly string[]): Promise<boolean> {
    const { retries, logger, name } = this.#fields;
    const found = new Set(names);
    const incomplete = existing.filter((source) =>
      [deadLetterTopic(source), ...retries.topicsOf(source).keys()].some((topic) => !found.has(topic)),
    );
    const toDeclare = incomplete.filter((source) => !this.#incompleteSources.includes(source));
    this.#incompleteSources = incomplete;
    if (toDeclare.length === 0) return false;
    // A failure does not stop consumption: publishing to a missing topic declares it again.
    await this.#fields
      .declareManagedTopics(toDeclare)
      .catch((error: unknown) => logger.warn(`${name}: ${messageOf(error)}`));
    return true;
  }

  /** After an unsupported codec the state stays `blocked` at first: the same batch may be fetched next. */
  async #showConsuming(topics: FoundTopics, ended: Promise<void>): Promise<void> {
    const settled = ended.catch(() => {});
    if (this.#hasUnsupportedCodec && (await settlesWithin(this.#fields.clock, settled, stableMs))) return;
    this.#hasUnsupportedCodec = false;
    this.#showReady(topics);
  }

  #showReady({ missing }: FoundTopics): void {
    const { logger, name } = this.#fields;
    if (missing.length === 0) {
      this.#lastMissingReason = undefined;
      return this.state.move({ value: 'ready' });
    }
    const reason = `${missing.length === 1 ? 'this topic does' : 'these topics do'} not exist: ${missing.join(', ')}`;
    if (this.#lastMissingReason !== reason) logger.warn(`${name}: ${reason}; the other topics are consumed`);
    this.#lastMissingReason = reason;
    this.state.move({ value: 'blocked', reason });
  }

  async #backOff(attempt: number, error: unknown): Promise<void> {
    const { reconnect, random, logger, name } = this.#fields;
    if (this.#stopped) return;
    const failure = error instanceof KafkaClientError ? error.failure : 'unavailable';
    const delayMs = backoffMs(attempt, reconnect, random);
    // Fails the boot. After the boot the consumer keeps trying: the missing permission may be granted again.
    if (failure === 'refused') this.#started.reject(error);
    const reason = describe(error);
    this.#hasUnsupportedCodec = failure === 'unsupported-codec';
    if (this.#hasUnsupportedCodec) this.state.move({ value: 'blocked', reason });
    else this.state.move({ value: 'backoff', attempt, delayMs, error: asError(error) });
    if (attempt === 1) logger.warn(`${name}: the consumer has failed and is restarted: ${reason}`);
    await this.#waitFor(delayMs);
  }

  /** Ends early at a shutdown. */
  async #waitFor(delayMs: number): Promise<void> {
    const interrupted = withResolvers<void>();
    this.#interrupt = interrupted.resolve;
    if (!this.#stopped) await settlesWithin(this.#fields.clock, interrupted.promise, delayMs);
  }
}

function describe(error: unknown): string {
  const isCodec = error instanceof KafkaClientError && error.failure === 'unsupported-codec';
  return isCodec
    ? `${messageOf(error)}; records are compressed with it: register the codec with the option compressionCodecs`
    : messageOf(error);
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error));
}
