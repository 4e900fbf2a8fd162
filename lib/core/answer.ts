import type { Codecs } from './codec.js';
import type { Driver } from './driver.js';
import type { ErrorEnvelope } from './errors.js';
import { emptyHeaders } from './headers.js';
import type { ReplyAddress } from './message.js';
import type { OutboundReply, ReplyKind } from './reply.js';

export interface AnswerFields {
  readonly driver: Pick<Driver, 'reply'>;
  readonly codecs: Codecs;
  readonly address: ReplyAddress;
  readonly correlationId: string;
}

interface Encoded {
  readonly body: Buffer;
  readonly contentType: string;
}

const noValue: Encoded = { body: Buffer.alloc(0), contentType: 'application/json' };

/** `confirmed`: the caller can have it. `undeliverable`: nobody listens. `lost`: the broker did not confirm, trying again may help. */
export type AnswerOutcome = 'confirmed' | 'undeliverable' | { readonly lost: unknown };

/**
 * The answer to one request: one value, a stream of items, or an error; sent in order, each confirmed before the next. A value
 * is held back until it is known whether another follows, so that the common case is one message.
 */
export class Answer {
  readonly #fields: AnswerFields;
  #held: Encoded | undefined;
  #release: NodeJS.Immediate | undefined;
  #streaming = false;
  #sent: Promise<AnswerOutcome> | undefined;
  #failed = false;

  constructor(fields: AnswerFields) {
    this.#fields = fields;
  }

  /** False: nobody listens any more, the stream may stop. Throws where the value cannot be written. */
  emit(value: unknown): boolean {
    const encoded =
      value === undefined && !this.#streaming ? noValue : this.#fields.codecs.encode(value, undefined);
    this.#sendHeld();
    if (this.#streaming) {
      void this.#send('item', encoded);
    } else {
      this.#held = encoded;
      // A stream whose second value is long in coming must not keep the first one back.
      this.#release = setImmediate(() => this.#sendHeld());
    }
    return !this.#failed;
  }

  end(): Promise<AnswerOutcome> {
    const held = this.#takeHeld();
    return held === undefined || held === noValue ? this.#send('end', noValue) : this.#send('value', held);
  }

  fail(error: ErrorEnvelope): Promise<AnswerOutcome> {
    this.#takeHeld();
    return this.#send('error', { body: Buffer.from(writeEnvelope(error)), contentType: 'application/json' });
  }

  #sendHeld(): void {
    const held = this.#takeHeld();
    if (held === undefined) return;
    this.#streaming = true;
    void this.#send('item', held);
  }

  #takeHeld(): Encoded | undefined {
    const held = this.#held;
    this.#held = undefined;
    clearImmediate(this.#release);
    return held;
  }

  #send(kind: ReplyKind, { body, contentType }: Encoded): Promise<AnswerOutcome> {
    const { correlationId } = this.#fields;
    const reply: OutboundReply = { kind, correlationId, body, contentType, headers: emptyHeaders() };
    const before = this.#sent;
    this.#sent =
      before === undefined
        ? this.#deliver(reply)
        : before.then((outcome) => (outcome === 'confirmed' ? this.#deliver(reply) : outcome));
    return this.#sent;
  }

  async #deliver(reply: OutboundReply): Promise<AnswerOutcome> {
    try {
      const outcome = await this.#fields.driver.reply(this.#fields.address, reply);
      if (outcome === 'undeliverable') this.#failed = true;
      return outcome;
    } catch (error) {
      this.#failed = true;
      return { lost: error };
    }
  }
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
