import { isDeepStrictEqual } from 'node:util';
import type { MessageHeaders } from '../../../core/message/headers.js';
import { matchesWords } from '../../../core/message/pattern.js';
import { BrokerError } from '../broker-error.js';

export type ExchangeType = 'direct' | 'topic' | 'fanout' | 'headers';

interface Binding {
  readonly queue: string;
  readonly routingKey: string;
  readonly args: MessageHeaders;
}

/** Routes messages to the queues that are bound to it. */
export class Exchange {
  readonly name: string;
  readonly type: ExchangeType;
  #bindings: readonly Binding[] = [];

  constructor(name: string, type: ExchangeType) {
    this.name = name;
    this.type = type;
  }

  /** Idempotent. Bindings of a headers exchange can differ in `args` alone. */
  bind(queue: string, routingKey: string, args: MessageHeaders = {}): void {
    const mode = args['x-match'];
    if (this.type === 'headers' && mode !== undefined && mode !== 'all' && mode !== 'any') {
      throw new BrokerError(
        406,
        `Binding of queue "${queue}" to exchange "${this.name}": x-match is neither all nor any`,
      );
    }
    const binding: Binding = { queue, routingKey, args: { ...args } };
    // An application binds again at each start, which must not add bindings.
    if (this.#bindings.some((other) => isDeepStrictEqual(other, binding))) return;
    this.#bindings = [...this.#bindings, binding];
  }

  unbind(queue: string, routingKey: string, args: MessageHeaders = {}): void {
    const binding: Binding = { queue, routingKey, args: { ...args } };
    this.#bindings = this.#bindings.filter((other) => !isDeepStrictEqual(other, binding));
  }

  /** Removes all bindings of a deleted queue. */
  unbindAll(queue: string): void {
    this.#bindings = this.#bindings.filter((binding) => binding.queue !== queue);
  }

  /** Names of the matching queues, each once, also if several of its bindings match. */
  route(routingKey: string, headers: MessageHeaders): ReadonlySet<string> {
    const matching = this.#bindings.filter((binding) => this.#matches(binding, routingKey, headers));
    return new Set(matching.map((binding) => binding.queue));
  }

  #matches(binding: Binding, routingKey: string, headers: MessageHeaders): boolean {
    switch (this.type) {
      case 'fanout':
        return true;
      case 'direct':
        return binding.routingKey === routingKey;
      case 'topic':
        return matchesWords(binding.routingKey, routingKey);
      case 'headers':
        return matchesHeaders(binding.args, headers);
    }
  }
}

function matchesHeaders(args: MessageHeaders, headers: MessageHeaders): boolean {
  // As on RabbitMQ: arguments whose names begin with `x-` are not compared with headers.
  const wanted = Object.keys(args).filter((name) => !name.startsWith('x-'));
  const has = (name: string): boolean => {
    const value = args[name];
    if (!Object.hasOwn(headers, name)) return false;
    return value === undefined || value === null || isDeepStrictEqual(value, headers[name]);
  };
  return args['x-match'] === 'any' ? wanted.some(has) : wanted.every(has);
}
