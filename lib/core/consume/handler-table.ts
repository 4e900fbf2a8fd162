import { targetHandlerId } from '../message/delivery-metadata.js';
import { matches, maxPatternBytes, type Pattern } from '../message/pattern.js';
import type { InboundMessage } from '../port/message.js';
import type { Handler } from './handler.js';
import type { ConcurrencyLimit } from '../dispatch/keyed-queue.js';

/** Which handlers a message is routed to. */
export interface Route<H extends Handler> {
  /** The pattern that matched, else the most specific candidate of the message. */
  readonly pattern: string;
  readonly events: readonly H[];
  readonly messageHandler: H | undefined;
  /** Concurrency limits of all these handlers. */
  readonly limits: readonly ConcurrencyLimit[];
}

/**
 * Routes are cached per pattern text. The cache is limited, because senders can use any number of
 * different patterns.
 */
const maxCachedRoutes = 10_000;

/** Routes messages to the handlers of one transport by pattern. */
export class HandlerTable<H extends Handler> {
  readonly #handlers: readonly H[];
  readonly #byId = new Map<string, H>();
  readonly #limits = new Map<H, ConcurrencyLimit>();
  readonly #cachedRoutes = new Map<string, Route<H>>();

  constructor(handlers: readonly H[]) {
    this.#handlers = handlers;
    for (const handler of handlers) {
      this.#byId.set(handler.id, handler);
      const limit = handler.consume?.concurrency;
      if (limit !== undefined) this.#limits.set(handler, { max: limit });
    }
  }

  byId(id: string): H | undefined {
    return this.#byId.get(id);
  }

  /** Whether any handler has its own `concurrency`. */
  get hasLimits(): boolean {
    return this.#limits.size > 0;
  }

  /**
   * Concurrency limits of the handlers that may get the message, known before it is decoded. If its pattern
   * has event handlers and a message handler, it returns the limits of both: whether it is a request
   * may only be known after a query to the broker.
   */
  limitsOf({ headers, patterns }: InboundMessage): readonly ConcurrencyLimit[] {
    const id = targetHandlerId(headers);
    if (id === undefined) return this.route(patterns).limits;
    const handler = this.#byId.get(id);
    return handler === undefined ? [] : this.#limitsOf([handler]);
  }

  #limitsOf(handlers: readonly H[]): readonly ConcurrencyLimit[] {
    return handlers.flatMap((handler) => this.#limits.get(handler) ?? []);
  }

  /** Routes by the first candidate that a handler listens to. */
  route(texts: readonly string[]): Route<H> {
    for (const text of texts) {
      const route = this.#lookUp(text);
      if (route.events.length > 0 || route.messageHandler !== undefined) return route;
    }
    return this.#lookUp(texts[0]!);
  }

  #lookUp(text: string): Route<H> {
    // No handler's pattern is that long: matching the text against wildcards and caching it would only cost
    // time and memory.
    if (text.length > maxPatternBytes) return this.#matchLong(text);
    const cached = this.#cachedRoutes.get(text);
    if (cached !== undefined) return cached;
    const route = this.#match(text);
    if (this.#cachedRoutes.size >= maxCachedRoutes) this.#cachedRoutes.clear();
    this.#cachedRoutes.set(text, route);
    return route;
  }

  #matchLong(text: string): Route<H> {
    const all = this.#handlers.filter(({ patterns }) => patterns.some((pattern) => pattern.text === '#'));
    return this.#toRoute(
      text,
      all.filter(({ kind }) => kind === 'event'),
      all.find(({ kind }) => kind === 'message'),
    );
  }

  /** All matching event handlers, and the most specific matching message handler. */
  #match(text: string): Route<H> {
    const matching = this.#handlers.filter(({ patterns }) =>
      patterns.some((pattern) => matches(pattern, text)),
    );
    const messageHandler = matching
      .filter(({ kind }) => kind === 'message')
      .map((handler) => ({ handler, rank: rank(handler, text) }))
      .toSorted((a, b) => a.rank - b.rank);
    return this.#toRoute(
      text,
      matching.filter(({ kind }) => kind === 'event'),
      messageHandler[0]?.handler,
    );
  }

  #toRoute(pattern: string, events: readonly H[], messageHandler: H | undefined): Route<H> {
    const handlers = messageHandler === undefined ? events : [...events, messageHandler];
    return { pattern, events, messageHandler, limits: this.#limitsOf(handlers) };
  }
}

/** 0: exact; 1: RegExp or wildcard; 2: the catch-all `#`. */
function rank({ patterns }: Handler, text: string): number {
  const ranks = patterns.filter((pattern) => matches(pattern, text)).map(rankOfPattern);
  return Math.min(...ranks);
}

function rankOfPattern({ kind, text }: Pattern): number {
  if (kind === 'exact') return 0;
  return text === '#' ? 2 : 1;
}
