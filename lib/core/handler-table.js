import { addressee } from './header-facts.js';
import { matches, maxPatternBytes } from './pattern.js';
/** Wildcards are matched once for each text; hostile senders must not make the memory of it grow without end. */
const maxRemembered = 10_000;
/** The handlers of one transport by pattern. */
export class HandlerTable {
  #handlers;
  #byId = new Map();
  #bounds = new Map();
  #remembered = new Map();
  constructor(handlers) {
    this.#handlers = handlers;
    for (const handler of handlers) {
      this.#byId.set(handler.id, handler);
      const limit = handler.consumption?.concurrency;
      if (limit !== undefined) this.#bounds.set(handler, { limit });
    }
  }
  get size() {
    return this.#handlers.length;
  }
  byId(id) {
    return this.#byId.get(id);
  }
  /** Whether any handler has a `concurrency` of its own. */
  get isBounded() {
    return this.#bounds.size > 0;
  }
  /**
   * Bounds of the handlers that a message may get, before it is read. Where a pattern has event handlers and a message handler, those of
   * both: which it will be may be a question to the broker.
   */
  boundsOf({ headers, patterns }) {
    const id = addressee(headers);
    if (id === undefined) return this.route(patterns).bounds;
    const handler = this.#byId.get(id);
    return handler === undefined ? [] : this.#boundsOf([handler]);
  }
  #boundsOf(handlers) {
    return handlers.flatMap((handler) => this.#bounds.get(handler) ?? []);
  }
  /** The first of the texts that any handler listens to decides. */
  route(texts) {
    for (const text of texts) {
      const route = this.#lookUp(text);
      if (route.events.length > 0 || route.answering !== undefined) return route;
    }
    return this.#lookUp(texts[0]);
  }
  #lookUp(text) {
    // No pattern can be so long; matching it, or remembering it, would serve only who means harm.
    if (text.length > maxPatternBytes) return this.#matchLong(text);
    const known = this.#remembered.get(text);
    if (known !== undefined) return known;
    const route = this.#match(text);
    if (this.#remembered.size >= maxRemembered) this.#remembered.clear();
    this.#remembered.set(text, route);
    return route;
  }
  #matchLong(text) {
    const all = this.#handlers.filter(({ patterns }) => patterns.some((pattern) => pattern.text === '#'));
    return this.#toRoute(
      text,
      all.filter(({ kind }) => kind === 'event'),
      all.find(({ kind }) => kind === 'message'),
    );
  }
  /** Every event handler that matches runs; of message handlers the most exact one. */
  #match(text) {
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
  #toRoute(pattern, events, answering) {
    const handlers = answering === undefined ? events : [...events, answering];
    return { pattern, events, answering, bounds: this.#boundsOf(handlers) };
  }
}
/** 0 exact, 1 RegExp or wildcard, 2 the catch-all `#`. */
function rank({ patterns }, text) {
  const ranks = patterns.filter((pattern) => matches(pattern, text)).map(rankOfPattern);
  return Math.min(...ranks);
}
function rankOfPattern({ kind, text }) {
  if (kind === 'exact') return 0;
  return text === '#' ? 2 : 1;
}
