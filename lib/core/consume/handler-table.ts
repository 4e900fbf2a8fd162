import { targetHandlerId } from '../message/delivery-metadata.js';
import { matches, maxPatternBytes, type Pattern } from '../message/pattern.js';
import type { InboundMessage } from '../port/message.js';
import type { Handler } from './handler.js';
import type { ConcurrencyLimit } from './keyed-queue.js';

/** Which handlers a message gets. */
export interface Route {
  /** The pattern that matched, else the most telling one of the message. */
  readonly pattern: string;
  readonly events: readonly Handler[];
  /** The message handler. */
  readonly messageHandler: Handler | undefined;
  /** Of all these handlers. */
  readonly limits: readonly ConcurrencyLimit[];
}

/**
 * Wildcards are matched once for each text; hostile senders must not make the memory of it grow without end.
 */
const maxRemembered = 10_000;

/** The handlers of one transport by pattern. */
export class HandlerTable {
  readonly #handlers: readonly Handler[];
  readonly #byId = new Map<string, Handler>();
  readonly #bounds = new Map<Handler, ConcurrencyLimit>();
  readonly #remembered = new Map<string, Route>();

  constructor(handlers: readonly Handler[]) {
    this.#handlers = handlers;
    for (const handler of handlers) {
      this.#byId.set(handler.id, handler);
      const limit = handler.consume?.concurrency;
      if (limit !== undefined) this.#bounds.set(handler, { max: limit });
    }
  }

  get size(): number {
    return this.#handlers.length;
  }

  byId(id: string): Handler | undefined {
    return this.#byId.get(id);
  }

  /** Whether any handler has a `concurrency` of its own. */
  get hasLimits(): boolean {
    return this.#bounds.size > 0;
  }

  /**
   * Bounds of the handlers that a message may get, before it is read. Where a pattern has event handlers and
   * a message handler, those of both: which it will be may be a question to the broker.
   */
  limitsOf({ headers, patterns }: InboundMessage): readonly ConcurrencyLimit[] {
    const id = targetHandlerId(headers);
    if (id === undefined) return this.route(patterns).limits;
    const handler = this.#byId.get(id);
    return handler === undefined ? [] : this.#boundsOf([handler]);
  }

  #boundsOf(handlers: readonly Handler[]): readonly ConcurrencyLimit[] {
    return handlers.flatMap((handler) => this.#bounds.get(handler) ?? []);
  }

  /** The first of the texts that any handler listens to decides. */
  route(texts: readonly string[]): Route {
    for (const text of texts) {
      const route = this.#lookUp(text);
      if (route.events.length > 0 || route.messageHandler !== undefined) return route;
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

  #toRoute(pattern: string, events: readonly Handler[], messageHandler: Handler | undefined): Route {
    const handlers = messageHandler === undefined ? events : [...events, messageHandler];
    return { pattern, events, messageHandler, limits: this.#boundsOf(handlers) };
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
