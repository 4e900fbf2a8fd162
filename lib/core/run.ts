import type { Answer } from './answer.js';
import type { Delivery } from './delivery.js';
import { remoteCodes } from './errors.js';
import type { Failure } from './failure.js';
import type { Handler, HandlerRun, Verb } from './handler-table.js';
import type { HeaderFacts } from './header-facts.js';

/** What the runs of one delivery share. */
export interface RunFields {
  readonly delivery: Delivery;
  readonly facts: HeaderFacts;
  /** Undefined on events. */
  readonly answer: Answer | undefined;
}

export interface RunInput {
  readonly pattern: string;
  readonly value: unknown;
}

/** One run of one handler, and what came of it: a verb of the handler's or, without one, its end. */
export class Run implements HandlerRun {
  readonly handler: Handler;
  readonly pattern: string;
  readonly value: unknown;
  readonly delivery: Delivery;
  readonly facts: HeaderFacts;
  /** Called after each verb that decides; for `manual`, where verbs need not wait for the end. */
  onVerb: (() => void) | undefined;
  readonly #answer: Answer | undefined;
  #verb: Verb | undefined;
  #failure: Failure | undefined;
  #hasEnded = false;

  constructor(handler: Handler, { delivery, facts, answer }: RunFields, { pattern, value }: RunInput) {
    this.handler = handler;
    this.pattern = pattern;
    this.value = value;
    this.delivery = delivery;
    this.facts = facts;
    this.#answer = answer;
  }

  get verb(): Verb['kind'] | undefined {
    return this.#verb?.kind;
  }

  /** How the handler failed, whatever it had said before. */
  get failure(): Failure | undefined {
    return this.#failure;
  }

  /** What the message is kept for as a dead letter. A message that has no way back is kept instead of given back. */
  get death(): Failure | undefined {
    if (this.#verb === undefined) return this.#failure;
    return this.#verb.kind === 'ack' ? undefined : rejected(this.#failure);
  }

  async start(): Promise<void> {
    this.#failure = await this.handler.run(this);
    this.#hasEnded = true;
  }

  emit(value: unknown): boolean {
    if (this.delivery.aborted || (this.#verb !== undefined && this.#verb.kind !== 'ack')) return false;
    return this.#answer === undefined || this.#answer.emit(value);
  }

  decide(verb: Verb): boolean {
    const { delivery } = this;
    if (this.#verb !== undefined || !delivery.open || delivery.aborted) return false;
    // The end of the run has decided.
    if (this.#hasEnded && (delivery.mode !== 'manual' || this.#failure !== undefined)) return false;
    this.#verb = verb;
    this.onVerb?.();
    return true;
  }
}

/** Whether it is known what the run means for its message, where its end without a failure says nothing. */
export function isDecided({ verb, failure }: Run): boolean {
  return verb !== undefined || failure !== undefined;
}

export function isAcknowledged({ verb }: Run): boolean {
  return verb === 'ack';
}

export function wantsBack({ verb, delivery }: Run): boolean {
  return verb === 'requeue' && !delivery.isFinal;
}

function rejected(failure: Failure | undefined): Failure {
  if (failure !== undefined) return { ...failure, reason: 'rejected' };
  const error = { name: 'RejectedError', message: 'the handler rejected the message' };
  return {
    error,
    reason: 'rejected',
    envelope: { ...error, code: remoteCodes.handlerFailed, retryable: false },
  };
}
