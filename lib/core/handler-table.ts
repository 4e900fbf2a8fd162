import type { ConsumptionWishes } from './consumption.js';
import type { DeadLetterPolicy } from './dead-letter-options.js';
import type { Failure } from './failure.js';
import type { Delivery } from './delivery.js';
import { addressee, type HeaderFacts } from './header-facts.js';
import type { IdempotencyPolicy } from './idempotency-policy.js';
import type { Bound } from './keyed-lanes.js';
import type { InboundMessage } from './message.js';
import { matches, maxPatternBytes, type Pattern } from './pattern.js';
import type { RetryPolicy } from './retry-options.js';

/** One handler of one transport, whatever lies between core and the user's method. */
export interface Handler {
  /** `<Class>.<method>` or the user's own; unique, stable over restarts: dead letters name it. */
  readonly id: string;
  readonly kind: 'event' | 'message';
  readonly patterns: readonly Pattern[];
  readonly consumption?: ConsumptionWishes;
  /** Undefined: one run. */
  readonly retry?: RetryPolicy;
  /** Undefined: every failure of an event is kept. */
  readonly deadLetter?: DeadLetterPolicy;
  /** Undefined: a message that comes twice runs twice. */
  readonly idempotency?: IdempotencyPolicy;
  /** Runs it once, with everything that wraps it. Resolves when it has completed; never rejects: a failure is a result. */
  run(run: HandlerRun): Promise<Failure | undefined>;
}

/** What one run of a handler gets. */
export interface HandlerRun {
  readonly pattern: string;
  readonly value: unknown;
  readonly delivery: Delivery;
  readonly facts: HeaderFacts;
  /** Its number, from 1, over runs in place and redeliveries. */
  readonly attempt: number;
  /** How many there can be. */
  readonly maxAttempts: number;
  /** When a run of the message first failed, in milliseconds since the epoch. */
  readonly firstFailedAt: number | undefined;
  /** Aborts when what comes of the run no longer counts. */
  readonly signal: AbortSignal;
  /** What else has to stop then, at once if it has come. */
  onAbort(listener: () => void): void;
  /** Takes a value of the result. False: nobody wants more, a stream may stop. */
  emit(value: unknown): boolean;
  /**
   * What the handler itself says of the message. The first verb decides: false for a later one, and where the message is settled or
   * somebody else's already.
   */
  decide(verb: Verb): boolean;
}

/** `ack`: handled. `requeue`: to come again. `reject`: to the dead letters. `retry`: the next of its runs, then or when its policy says. */
export type Verb =
  | { readonly kind: 'ack' | 'requeue' }
  | { readonly kind: 'reject'; readonly why?: string }
  | { readonly kind: 'retry'; readonly delayMs?: number | undefined };

/** Which handlers a message gets. */
export interface Route {
  /** The pattern that matched, else the most telling one of the message. */
  readonly pattern: string;
  readonly events: readonly Handler[];
  /** The message handler. */
  readonly answering: Handler | undefined;
  /** Of all these handlers. */
  readonly bounds: readonly Bound[];
}

/** Wildcards are matched once for each text; hostile senders must not make the memory of it grow without end. */
const maxRemembered = 10_000;

/** The handlers of one transport by pattern. */
export class HandlerTable {
  readonly #handlers: readonly Handler[];
  readonly #byId = new Map<string, Handler>();
  readonly #bounds = new Map<Handler, Bound>();
  readonly #remembered = new Map<string, Route>();

  constructor(handlers: readonly Handler[]) {
    this.#handlers = handlers;
    for (const handler of handlers) {
      this.#byId.set(handler.id, handler);
      const limit = handler.consumption?.concurrency;
      if (limit !== undefined) this.#bounds.set(handler, { limit });
    }
  }

  get size(): number {
    return this.#handlers.length;
  }

  byId(id: string): Handler | undefined {
    return this.#byId.get(id);
  }

  /** Whether any handler has a `concurrency` of its own. */
  get isBounded(): boolean {
    return this.#bounds.size > 0;
  }

  /**
   * Bounds of the handlers that a message may get, before it is read. Where a pattern has event handlers and a message handler, those of
   * both: which it will be may be a question to the broker.
   */
  boundsOf({ headers, patterns }: InboundMessage): readonly Bound[] {
    const id = addressee(headers);
    if (id === undefined) return this.route(patterns).bounds;
    const handler = this.#byId.get(id);
    return handler === undefined ? [] : this.#boundsOf([handler]);
  }

  #boundsOf(handlers: readonly Handler[]): readonly Bound[] {
    return handlers.flatMap((handler) => this.#bounds.get(handler) ?? []);
  }

  /** The first of the texts that any handler listens to decides. */
  route(texts: readonly string[]): Route {
    for (const text of texts) {
      const route = this.#lookUp(text);
      if (route.events.length > 0 || route.answering !== undefined) return route;
    }
    return this.#lookUp(texts[0]!);
  }

  #lookUp(text: string): Route {
    // No pattern can be so long; matching it, or remembering it, would serve only who means harm.
    if (text.length > maxPatternBytes) return this.#matchLong(text);
    const known = this.#remembered.get(text);
    if (known !== undefined) return known;
    const route = this.#match(text);
    if (this.#remembered.size >= maxRemembered) this.#remembered.clear();
    this.#remembered.set(text, route);
    return route;
  }

  #matchLong(text: string): Route {
    const all = this.#handlers.filter(({ patterns }) => patterns.some((pattern) => pattern.text === '#'));
    return this.#toRoute(
      text,
      all.filter(({ kind }) => kind === 'event'),
      all.find(({ kind }) => kind === 'message'),
    );
  }

  /** Every event handler that matches runs; of message handlers the most exact one. */
  #match(text: string): Route {
    const matching = this.#handlers.filter(({ patterns }) =>
      patterns.some((pattern) => matches(pattern, text)),
    );
    const answering = matching
      .filter(({ kind }) => kind === 'message')
      .map((handler) => ({ handler, rank: rank(handler, text) }))
      .toSorted((a, b) => a.rank - b.rank);
    return this.#toRoute(
      text,
      matching.filter(({ kind }) => kind === 'event'),
      answering[0]?.handler,
    );
  }

  #toRoute(pattern: string, events: readonly Handler[], answering: Handler | undefined): Route {
    const handlers = answering === undefined ? events : [...events, answering];
    return { pattern, events, answering, bounds: this.#boundsOf(handlers) };
  }
}

/** 0 exact, 1 RegExp or wildcard, 2 the catch-all `#`. */
function rank({ patterns }: Handler, text: string): number {
  const ranks = patterns.filter((pattern) => matches(pattern, text)).map(rankOfPattern);
  return Math.min(...ranks);
}

function rankOfPattern({ kind, text }: Pattern): number {
  if (kind === 'exact') return 0;
  return text === '#' ? 2 : 1;
}
