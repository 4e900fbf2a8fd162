import type { Counters } from '../runtime/counters.js';
import { messageOf, type ErrorEnvelope, remoteCodes } from '../runtime/errors.js';
import type { StorkLogger } from '../runtime/logger.js';
import type { ReplyOutcome, ReplyAddress, ReplyKind } from '../port/message.js';
import type { Codecs } from '../message/codec.js';
import type { Driver } from '../port/driver.js';
import { emptyHeaders } from '../message/headers.js';
import type { StoredReply } from '../idempotency/idempotency-store.js';

export interface ReplyWriterFields {
  readonly driver: Pick<Driver, 'reply'>;
  readonly codecs: Codecs;
  readonly address: ReplyAddress;
  readonly correlationId: string;
}

/** `too-large`: the caller was told so instead. `lost`: the broker did not confirm, trying again may help. */
export type ReplyWriterOutcome = ReplyOutcome | { readonly unconfirmed: unknown };

const noValue: StoredReply = { body: Buffer.alloc(0), contentType: 'application/json' };
/** A handler's stream cannot be slowed down: past this it fails, before it fills the memory. */
const maxUnsent = 10_000;
/** Characters that are left of each text of an error that does not fit through the broker. */
const shortLength = 1_000;
const replyTooLarge: ErrorEnvelope = {
  name: 'MessageTooLargeError',
  message: 'the handler has ended, and its reply does not fit through the broker',
  code: remoteCodes.tooLarge,
  retryable: false,
};

/**
 * The answer to one request: one value, a stream of items, or an error; sent in order, each confirmed before
 * the next. A value is held back until it is known whether another follows, so that the common case is one
 * message.
 */
export class ReplyWriter {
  readonly #fields: ReplyWriterFields;
  #held: { readonly encoded: StoredReply | undefined } | undefined;
  #release: NodeJS.Immediate | undefined;
  #streaming = false;
  #sent: Promise<ReplyWriterOutcome> | undefined;
  #unsent = 0;
  #failed = false;
  #isWhole = false;

  constructor(fields: ReplyWriterFields) {
    this.#fields = fields;
  }

  /** False: nobody listens any more, the stream may stop. Throws where the value cannot be written. */
  emit(value: unknown): boolean {
    // Here, not when it is sent: what cannot be written is the handler's failure.
    const encoded = value === undefined ? undefined : this.#fields.codecs.encode(value, undefined);
    this.#sendHeld();
    if (this.#streaming) {
      this.#sendItem(encoded);
    } else {
      this.#held = { encoded };
      if (this.#isWhole) return !this.#failed;
      // A stream whose second value is long in coming must not keep the first one back.
      this.#release = setImmediate(() => this.#sendHeld());
    }
    return !this.#failed;
  }

  end(): Promise<ReplyWriterOutcome> {
    const encoded = this.#takeHeld()?.encoded;
    return encoded === undefined ? this.#send('end', noValue) : this.#send('value', encoded);
  }

  fail(error: ErrorEnvelope): Promise<ReplyWriterOutcome> {
    this.#takeHeld();
    return this.#send('error', encodeEnvelope(error), shortened(error));
  }

  /** From now on it is one value, sent at the end and not before. */
  bufferSingleValue(): void {
    this.#isWhole = true;
  }

  /** Whether there is a value that was not sent yet. */
  get hasBufferedValue(): boolean {
    return this.#held !== undefined;
  }

  /** What that value is on the wire; undefined: nothing, or a value without a body. */
  get bufferedReply(): StoredReply | undefined {
    return this.#held?.encoded;
  }

  /** Answers what was answered before. */
  repeat(reply: StoredReply | undefined): void {
    this.#held = { encoded: reply };
  }

  /** Whether the caller can have a part of the answer already, so that it cannot begin anew. */
  get hasStreamed(): boolean {
    return this.#streaming;
  }

  /** Forgets what was not sent: another run begins. */
  restart(): void {
    this.#takeHeld();
  }

  /** Sends nothing more: somebody else will answer. */
  discard(): void {
    this.#takeHeld();
    this.#failed = true;
  }

  #sendHeld(): void {
    const held = this.#takeHeld();
    if (held === undefined) return;
    this.#streaming = true;
    this.#sendItem(held.encoded);
  }

  /** Alone, `undefined` is an answer without a value; as one of several it needs a body. */
  #sendItem(encoded: StoredReply | undefined): void {
    if (this.#unsent >= maxUnsent)
      throw new RangeError(`the stream outran the broker by ${this.#unsent} items`);
    void this.#send('item', encoded ?? this.#fields.codecs.encode(null, undefined));
  }

  #takeHeld() {
    const held = this.#held;
    this.#held = undefined;
    clearImmediate(this.#release);
    return held;
  }

  /** @param insteadOf what the caller gets where it does not fit */
  #send(kind: ReplyKind, encoded: StoredReply, insteadOf = replyTooLarge): Promise<ReplyWriterOutcome> {
    const before = this.#sent;
    this.#unsent++;
    this.#sent =
      before === undefined
        ? this.#deliver(kind, encoded, insteadOf)
        : before.then((outcome) => this.#after(outcome, () => this.#deliver(kind, encoded, insteadOf)));
    return this.#sent;
  }

  #after(
    before: ReplyWriterOutcome,
    deliver: () => Promise<ReplyWriterOutcome>,
  ): ReplyWriterOutcome | Promise<ReplyWriterOutcome> {
    if (before === 'confirmed') return deliver();
    this.#unsent--;
    return before;
  }

  async #deliver(
    kind: ReplyKind,
    encoded: StoredReply,
    insteadOf: ErrorEnvelope,
  ): Promise<ReplyWriterOutcome> {
    try {
      const outcome = await this.#reply(kind, encoded);
      if (outcome === 'confirmed') return outcome;
      this.#failed = true;
      if (outcome === 'undeliverable') return outcome;
      return (await this.#reply('error', encodeEnvelope(insteadOf))) === 'undeliverable'
        ? 'undeliverable'
        : 'too-large';
    } catch (error) {
      this.#failed = true;
      return { unconfirmed: error };
    } finally {
      this.#unsent--;
    }
  }

  #reply(kind: ReplyKind, { body, contentType }: StoredReply): Promise<ReplyOutcome> {
    const { driver, address, correlationId } = this.#fields;
    return driver.reply(address, { kind, correlationId, body, contentType, headers: emptyHeaders() });
  }
}

function encodeEnvelope(error: ErrorEnvelope): StoredReply {
  return { body: Buffer.from(writeEnvelope(error)), contentType: 'application/json' };
}

/** Without `details`, which may be anything. */
function shortened({ name, message, code, retryable }: ErrorEnvelope): ErrorEnvelope {
  const short = (text: string): string => text.slice(0, shortLength);
  return { name: short(name), message: short(message), code: short(code), retryable };
}

/** `details` come from the user's error and may be anything; the rest is text. */
function writeEnvelope(error: ErrorEnvelope): string {
  try {
    return JSON.stringify(error);
  } catch {
    const { name, message, code, retryable } = error;
    return JSON.stringify({ name, message, code, retryable });
  }
}

/** What is needed to say of an answer that it did not reach whoever asked. */
export interface ReplyScope {
  readonly subscription: string;
  readonly logger: StorkLogger;
  readonly counters: Counters;
}

/** The message itself is kept elsewhere, so a caller who cannot be told is not asked for a second time. */
export async function sendErrorReply(
  replyWriter: ReplyWriter | undefined,
  error: ErrorEnvelope,
  scope: ReplyScope,
): Promise<void> {
  const outcome: ReplyWriterOutcome | undefined = await replyWriter?.fail(error);
  if (typeof outcome === 'string') logUndeliverable(outcome, scope);
  if (typeof outcome !== 'object') return;
  scope.logger.warn(
    `${scope.subscription}: an error reply was not confirmed: ${messageOf(outcome.unconfirmed)}`,
  );
}

/** The same with what the handler has answered. */
export async function sendReply(replyWriter: ReplyWriter, scope: ReplyScope): Promise<void> {
  const outcome = await replyWriter.end();
  if (typeof outcome === 'string') logUndeliverable(outcome, scope);
  if (typeof outcome !== 'object') return;
  scope.logger.warn(`${scope.subscription}: a reply was not confirmed: ${messageOf(outcome.unconfirmed)}`);
}

export function logUndeliverable(
  outcome: ReplyOutcome,
  { counters, logger, subscription }: ReplyScope,
): void {
  if (outcome === 'confirmed') return;
  counters.add('reply-undeliverable');
  const why =
    outcome === 'too-large'
      ? 'a reply does not fit through the broker, its caller is told TOO_LARGE or a shortened error'
      : 'nobody listens where a reply was sent';
  logger.warn(`${subscription}: ${why}; the request counts as done`);
}
