import type { Counters, StorkLogger } from '../runtime/reporting.js';
import { messageOf, type ErrorEnvelope, remoteCodes } from '../runtime/errors.js';
import type { ReplyOutcome, ReplyAddress, ReplyKind } from '../port/message.js';
import type { CodecContext, Codecs, Encoded } from '../message/codec.js';
import type { Driver } from '../port/driver.js';
import { emptyHeaders, headerNames } from '../message/headers.js';
import { redacted } from '../message/text.js';
import type { Failure } from '../runtime/failure.js';
import type { Handler } from './handler.js';
import type { StoredReply } from '../idempotency/idempotency-store.js';

/**
 * Waits before a reply that was not confirmed is sent again. Resolves with false if it is not sent again.
 *
 * @param retry counts from 0
 */
export type ReplyRetry = (retry: number, error: unknown) => Promise<boolean>;

export interface ReplyWriterFields {
  readonly driver: Pick<Driver, 'reply'>;
  readonly codecs: Codecs;
  readonly address: ReplyAddress;
  readonly correlationId: string;
  /** Pattern of the request. */
  readonly pattern: string;
  /** Until the handler has ended; then `end` and `fail` may replace it. */
  readonly retry: ReplyRetry;
}

/**
 * `too-large`: the caller got an error instead. `unconfirmed`: the broker did not confirm the reply, nor
 * its retries.
 */
export type ReplyWriterOutcome = ReplyOutcome | { readonly unconfirmed: unknown };

const emptyReply: StoredReply = { body: Buffer.alloc(0), contentType: 'application/json' };
/**
 * Unconfirmed items of a stream. A handler's stream has no backpressure, so beyond this limit it fails
 * instead of filling the memory.
 */
const maxUnconfirmed = 10_000;
/** Maximum characters of each text when an error is shortened to fit through the broker. */
const maxTextLength = 1_000;
const replyTooLarge: ErrorEnvelope = {
  name: 'MessageTooLargeError',
  message: 'the handler succeeded, but its reply exceeds the size limit of the broker',
  code: remoteCodes.tooLarge,
  retryable: false,
};

/**
 * Sends the reply to one request: a value, a stream of items, or an error. Messages are sent in order, each
 * after the confirmation of the previous one. A value is buffered until it is known whether another
 * follows, so that a reply with a single value is one message.
 */
export class ReplyWriter {
  readonly #fields: ReplyWriterFields;
  #retry: ReplyRetry;
  #buffered: { readonly encoded: StoredReply | undefined } | undefined;
  #flushTimer: NodeJS.Immediate | undefined;
  #streaming = false;
  #lastSend: Promise<ReplyWriterOutcome> | undefined;
  #unconfirmed = 0;
  #itemCount = 0;
  #hasFailed = false;
  #isSingleValue = false;
  #streamError: { readonly error: unknown } | undefined;

  constructor(fields: ReplyWriterFields) {
    this.#fields = fields;
    this.#retry = fields.retry;
  }

  /**
   * Encodes a value before it is sent: one that cannot be encoded is a failure of the handler.
   *
   * @returns undefined for a reply without a body
   * @throws the codec's error; a promise rejects with it
   */
  encode(value: unknown): StoredReply | undefined | Promise<Encoded> {
    return value === undefined ? undefined : this.#encode(value);
  }

  /** Returns false if further values are ignored, so that a stream may stop. */
  emit(encoded: StoredReply | undefined): boolean {
    if (this.#streamError !== undefined) return false;
    this.#flush();
    if (this.#streaming) {
      this.#sendItem(encoded);
    } else {
      this.#buffered = { encoded };
      if (this.#isSingleValue) return !this.#hasFailed;
      // The first value of a stream must not wait until the second is emitted.
      this.#flushTimer = setImmediate(() => this.#flushFirst());
    }
    return !this.#hasFailed;
  }

  /** @param retry holds for the unconfirmed items too */
  end(retry = this.#retry): Promise<ReplyWriterOutcome> {
    this.#retry = retry;
    const encoded = this.#takeBuffered()?.encoded;
    return encoded === undefined ? this.#send('end', emptyReply) : this.#send('value', encoded);
  }

  /** @param retry holds for the unconfirmed items too; undefined: the error is sent once */
  fail(error: ErrorEnvelope, retry?: ReplyRetry): Promise<ReplyWriterOutcome> {
    this.#retry = retry ?? this.#retry;
    this.#takeBuffered();
    const isRetried = retry !== undefined;
    return this.#send('error', encodeEnvelope(error), { isRetried, fallback: shorten(error) });
  }

  /** The reply is a single value, sent at `end` and not before. */
  bufferSingleValue(): void {
    this.#isSingleValue = true;
  }

  /** Why the first value of a stream could not be sent as its first item. */
  get streamError(): { readonly error: unknown } | undefined {
    return this.#streamError;
  }

  /** Whether a value has been emitted and not sent. */
  get hasBufferedValue(): boolean {
    return this.#buffered !== undefined;
  }

  /** The buffered value, encoded. Undefined if there is none or it has no body. */
  get bufferedReply(): StoredReply | undefined {
    return this.#buffered?.encoded;
  }

  /** Buffers the stored reply of an earlier delivery, for a duplicate. */
  replayStored(reply: StoredReply | undefined): void {
    this.#buffered = { encoded: reply };
  }

  /**
   * Whether items have been sent: the caller has part of the reply, so another attempt cannot restart
   * it.
   */
  get hasStreamed(): boolean {
    return this.#streaming;
  }

  /** Drops the buffered value, because another attempt starts. */
  restart(): void {
    this.#takeBuffered();
    this.#streamError = undefined;
  }

  /** Sends nothing further, because a redelivery of the request replies. */
  discard(): void {
    this.#takeBuffered();
    this.#hasFailed = true;
  }

  /** Called by a timer, so that what it throws has to wait for the end of the handler. */
  #flushFirst(): void {
    try {
      this.#flush();
    } catch (error) {
      this.#streamError = { error };
    }
  }

  #flush(): void {
    const buffered = this.#takeBuffered();
    if (buffered === undefined) return;
    this.#streaming = true;
    this.#sendItem(buffered.encoded);
  }

  /**
   * An item of a stream needs a body, so `undefined` is sent as `null`; as the only value it is a reply
   * without a body.
   */
  #sendItem(encoded: StoredReply | undefined): void {
    if (this.#unconfirmed >= maxUnconfirmed)
      throw new RangeError(`the stream has ${this.#unconfirmed} items that the broker has not confirmed`);
    void this.#send('item', encoded ?? this.#encode(null));
  }

  #encode(value: unknown): Encoded | Promise<Encoded> {
    return this.#fields.codecs.encode(value, undefined, this.#codecContext);
  }

  readonly #codecContext = (): CodecContext => ({
    direction: 'outbound',
    pattern: this.#fields.pattern,
    destination: undefined,
    headers: emptyHeaders(),
  });

  #takeBuffered() {
    const buffered = this.#buffered;
    this.#buffered = undefined;
    clearImmediate(this.#flushTimer);
    return buffered;
  }

  #send(
    kind: ReplyKind,
    encoded: StoredReply | Promise<StoredReply>,
    settings: SendSettings = {},
  ): Promise<ReplyWriterOutcome> {
    const previous = this.#lastSend;
    // Not awaited if an earlier send has failed.
    if (encoded instanceof Promise) encoded.catch(() => {});
    this.#unconfirmed++;
    const deliver = (): Promise<ReplyWriterOutcome> => this.#deliver(kind, encoded, settings);
    this.#lastSend =
      previous === undefined ? deliver() : previous.then((outcome) => this.#sendAfter(outcome, deliver));
    return this.#lastSend;
  }

  #sendAfter(
    previous: ReplyWriterOutcome,
    deliver: () => Promise<ReplyWriterOutcome>,
  ): ReplyWriterOutcome | Promise<ReplyWriterOutcome> {
    if (previous === 'confirmed') return deliver();
    this.#unconfirmed--;
    return previous;
  }

  async #deliver(
    kind: ReplyKind,
    encoded: StoredReply | Promise<StoredReply>,
    { isRetried = true, fallback = replyTooLarge }: SendSettings,
  ): Promise<ReplyWriterOutcome> {
    try {
      const outcome = await this.#reply(
        kind,
        encoded instanceof Promise ? await encoded : encoded,
        isRetried,
      );
      if (outcome === 'confirmed') return outcome;
      this.#hasFailed = true;
      if (outcome === 'undeliverable') return outcome;
      return (await this.#reply('error', encodeEnvelope(fallback), isRetried)) === 'undeliverable'
        ? 'undeliverable'
        : 'too-large';
    } catch (error) {
      this.#hasFailed = true;
      return { unconfirmed: error };
    } finally {
      this.#unconfirmed--;
    }
  }

  async #reply(
    kind: ReplyKind,
    { body, contentType }: StoredReply,
    isRetried: boolean,
  ): Promise<ReplyOutcome> {
    const { driver, address, correlationId } = this.#fields;
    const headers = emptyHeaders();
    if (kind === 'item') headers[headerNames.replyItem] = String(++this.#itemCount);
    const endsStream = kind === 'end' && this.#streaming;
    for (let retries = 0; ; retries++) {
      try {
        return await driver.reply(address, { kind, endsStream, correlationId, body, contentType, headers });
      } catch (error) {
        if (!isRetried || !(await this.#retry(retries, error))) throw error;
      }
    }
  }
}

interface SendSettings {
  /** @defaultValue true */
  readonly isRetried?: boolean;
  /** The error that is sent instead if the reply is too large. @defaultValue `replyTooLarge` */
  readonly fallback?: ErrorEnvelope;
}

function encodeEnvelope(error: ErrorEnvelope): StoredReply {
  return { body: Buffer.from(writeEnvelope(error)), contentType: 'application/json' };
}

/** Omits `details`, whose size is unknown. */
function shorten(error: ErrorEnvelope): ErrorEnvelope {
  const short = (text: string): string => text.slice(0, maxTextLength);
  return {
    ...error,
    details: undefined,
    name: short(error.name),
    message: short(error.message),
    code: short(error.code),
  };
}

/** Omits what cannot be serialized of `details`: they come from the user's error. */
function writeEnvelope({ details, ...error }: ErrorEnvelope): string {
  const fields = serialize(() => details) ?? serializeFields(details);
  return `${JSON.stringify(error).slice(0, -1)}${fields === undefined ? '' : `,"details":${fields}`}}`;
}

function serialize(read: () => unknown): string | undefined {
  try {
    return JSON.stringify(read(), readable);
  } catch {
    return undefined;
  }
}

/** A getter may throw; of a proxy also the question whether it is an array. */
function serializeFields(details: unknown): string | undefined {
  try {
    if (typeof details !== 'object' || details === null || Array.isArray(details)) return undefined;
    const fields = Object.keys(details).flatMap((name) => {
      const text = serialize(() => (details as Record<string, unknown>)[name]);
      return text === undefined ? [] : [`${JSON.stringify(name)}:${text}`];
    });
    return `{${fields.join(',')}}`;
  } catch {
    return undefined;
  }
}

/** JSON leaves the entries of a `Map` and a `Set` out, and refuses a bigint. */
function readable(_: string, value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value as Map<string, unknown>);
  if (value instanceof Set) return [...(value as Set<unknown>)];
  return typeof value === 'bigint' ? String(value) : value;
}

const maskedError = { name: 'Error', message: 'Internal server error', code: remoteCodes.handlerFailed };

/** What the caller of a failed attempt gets. */
export function errorReply(
  { envelope, isInternal }: Failure,
  { handler }: { readonly handler: Pick<Handler, 'deadLetter'> },
  { exposeErrors }: { readonly exposeErrors: boolean },
): ErrorEnvelope {
  if (!isInternal) return envelope;
  if (!exposeErrors) return { ...maskedError, retryable: envelope.retryable };
  return { ...envelope, message: redacted(envelope.message, handler.deadLetter?.redact) };
}

/** What is needed to log and count a failed reply. */
export interface ReplyScope {
  readonly subscription: string;
  readonly logger: StorkLogger;
  readonly counters: Counters;
}

/**
 * Sends an error reply. A failure is only logged: the message is dead-lettered, so it is not processed
 * again for the reply.
 */
export async function sendErrorReply(
  replyWriter: ReplyWriter | undefined,
  error: ErrorEnvelope,
  scope: ReplyScope,
): Promise<void> {
  if (replyWriter !== undefined) logFailedReply('an error reply', await replyWriter.fail(error), scope);
}

/** Sends the reply of a handler whose message stays unsettled (`manual`). A failure is only logged. */
export async function sendReply(replyWriter: ReplyWriter, scope: ReplyScope): Promise<void> {
  logFailedReply('a reply', await replyWriter.end(), scope);
}

function logFailedReply(what: string, outcome: ReplyWriterOutcome, scope: ReplyScope): void {
  if (typeof outcome === 'string') return logUndeliverable(outcome, scope);
  scope.logger.warn(`${scope.subscription}: ${what} was not confirmed: ${messageOf(outcome.unconfirmed)}`);
}

export function logUndeliverable(
  outcome: ReplyWriterOutcome,
  { counters, logger, subscription }: ReplyScope,
): void {
  if (outcome === 'confirmed') return;
  counters.add('reply-undeliverable');
  const why =
    typeof outcome === 'object'
      ? `a reply was not confirmed in time: ${messageOf(outcome.unconfirmed)}`
      : outcome === 'too-large'
        ? 'a reply exceeds the size limit of the broker, its caller gets TOO_LARGE or a shortened error'
        : 'the reply address has no listener';
  logger.warn(`${subscription}: ${why}; the request counts as handled`);
}
