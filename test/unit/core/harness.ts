import { setImmediate as nextTurn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';
import {
  builtInCodecs,
  Codecs,
  type CodecContext,
  type Decoded,
  type Encoded,
  type MessageCodec,
} from '../../../lib/core/message/codec.js';
import {
  Delivery,
  type DeliveryFields,
  SourceSession,
  type RepublishedMessage,
  type DeliverySource,
} from '../../../lib/core/port/delivery.js';
import type { StorkLogger } from '../../../lib/core/runtime/reporting.js';
import type { InboundMessage } from '../../../lib/core/port/message.js';

/** Lets all pending promises settle that wait for no timer. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 3; turn++) await nextTurn();
}

/** Runs a full garbage collection. A `WeakRef` keeps its object alive in the turn in which it was made. */
export async function collectGarbage(): Promise<void> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  await nextTurn();
  collect();
}

export function newCodecs(...own: readonly MessageCodec[]): Codecs {
  return new Codecs([...builtInCodecs, ...own], 'application/json', new VirtualClock());
}

const codecContext = (): CodecContext => ({
  direction: 'inbound',
  pattern: 'order.paid',
  destination: 'orders',
  headers: {},
});

/** Encodes by a codec that returns no promise. */
export function encodeNow(codecs: Codecs, value: unknown, contentType?: string): Encoded {
  return codecs.encode(value, contentType, codecContext) as Encoded;
}

/** Decodes by a codec that returns no promise. */
export function decodeNow(
  codecs: Codecs,
  body: Buffer | null,
  contentType?: string,
  contentEncoding?: string,
): Decoded {
  return codecs.decode({ body, contentType, contentEncoding }, codecContext) as Decoded;
}

export function newMessage(fields: Partial<InboundMessage> = {}): InboundMessage {
  return {
    body: Buffer.from('{"id":1}'),
    headers: {},
    patterns: ['order.paid'],
    contentType: 'application/json',
    messageId: 'm-1',
    correlationId: undefined,
    key: undefined,
    timestamp: undefined,
    origin: { source: 'orders' },
    raw: undefined,
    ...fields,
  };
}

/** A delivery source that records its calls, and rejects republishes as often as it is told to. */
export class RecordingSource implements DeliverySource {
  readonly events: string[] = [];
  /** Confirmed messages. */
  readonly republished: RepublishedMessage[] = [];
  /** Number of `republish` calls that reject before one succeeds. */
  refusals = 0;
  /** If set, each `republish` waits for it. */
  gate: Promise<void> | undefined;

  ack(delivery: Delivery): void {
    this.events.push(`ack ${delivery.tag}`);
  }

  async ackEarly(delivery: Delivery): Promise<void> {
    this.events.push(`ackEarly ${delivery.tag}`);
  }

  requeue(delivery: Delivery): void {
    this.events.push(`requeue ${delivery.tag}`);
  }

  async republish(delivery: Delivery, message: RepublishedMessage): Promise<void> {
    this.events.push(`republish ${delivery.tag}`);
    await this.gate;
    if (this.refusals > 0) {
      this.refusals--;
      throw new Error('the broker rejects it');
    }
    this.republished.push(message);
  }
}

export interface TestDelivery {
  readonly delivery: Delivery;
  readonly source: RecordingSource;
  readonly session: SourceSession;
}

export function newDelivery(fields: Partial<Omit<DeliveryFields, 'source'>> = {}): TestDelivery {
  const source = new RecordingSource();
  const session = fields.session ?? new SourceSession();
  const rest = { message: newMessage(), orderingKey: undefined, redelivered: false, tag: 1, ...fields };
  return { delivery: new Delivery({ ...rest, session, source }), source, session };
}

export class RecordingLogger implements StorkLogger {
  readonly lines: string[] = [];
  debug(line: string): void {
    this.lines.push(`debug ${line}`);
  }
  log(line: string): void {
    this.lines.push(`log ${line}`);
  }
  warn(line: string): void {
    this.lines.push(`warn ${line}`);
  }
  error(line: string): void {
    this.lines.push(`error ${line}`);
  }
}

export interface Gate<T = void> {
  readonly promise: Promise<T>;
  open(value: T): void;
  fail(error: Error): void;
}

/** Records whether a promise has resolved, and with what. */
export function noteWhenDone<T>(promise: Promise<T>): { done: boolean; value: T | undefined } {
  const note: { done: boolean; value: T | undefined } = { done: false, value: undefined };
  void promise.then((value) => Object.assign(note, { done: true, value }));
  return note;
}

/** A promise that the test settles. */
export function newGate<T = void>(): Gate<T> {
  let open: (value: T) => void = () => {};
  let fail: (error: Error) => void = () => {};
  const promise = new Promise<T>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { promise, open, fail };
}
