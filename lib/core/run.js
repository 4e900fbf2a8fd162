import { remoteCodes } from './errors.js';
/** One run of one handler, and what came of it: a verb of the handler's or, without one, its end. */
export class Run {
  handler;
  pattern;
  value;
  delivery;
  facts;
  /** Called after each verb that decides; for `manual`, where verbs need not wait for the end. */
  onVerb;
  #answer;
  #verb;
  #failure;
  #hasEnded = false;
  constructor(handler, { delivery, facts, answer }, { pattern, value }) {
    this.handler = handler;
    this.pattern = pattern;
    this.value = value;
    this.delivery = delivery;
    this.facts = facts;
    this.#answer = answer;
  }
  get verb() {
    return this.#verb?.kind;
  }
  /** How the handler failed, whatever it had said before. */
  get failure() {
    return this.#failure;
  }
  /** What the message is kept for as a dead letter. A message that has no way back is kept instead of given back. */
  get death() {
    if (this.#verb === undefined) return this.#failure;
    return this.#verb.kind === 'ack' ? undefined : rejected(this.#failure);
  }
  async start() {
    this.#failure = await this.handler.run(this);
    this.#hasEnded = true;
  }
  emit(value) {
    if (this.delivery.aborted || (this.#verb !== undefined && this.#verb.kind !== 'ack')) return false;
    return this.#answer === undefined || this.#answer.emit(value);
  }
  decide(verb) {
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
export function isDecided({ verb, failure }) {
  return verb !== undefined || failure !== undefined;
}
export function isAcknowledged({ verb }) {
  return verb === 'ack';
}
export function wantsBack({ verb, delivery }) {
  return verb === 'requeue' && !delivery.isFinal;
}
function rejected(failure) {
  if (failure !== undefined) return { ...failure, reason: 'rejected' };
  const error = { name: 'RejectedError', message: 'the handler rejected the message' };
  return {
    error,
    reason: 'rejected',
    envelope: { ...error, code: remoteCodes.handlerFailed, retryable: false },
  };
}
