import { BehaviorSubject } from 'rxjs';
/** Holds the current state and tells who listens. Only the driver that owns it moves it; `closed` is final. */
export class ConnectionStateCell {
  #states = new BehaviorSubject({ value: 'idle' });
  get current() {
    return this.#states.value;
  }
  get changes() {
    return this.#states.asObservable();
  }
  move(next) {
    if (this.current.value === 'closed') return;
    this.#states.next(next);
    if (next.value === 'closed') this.#states.complete();
  }
}
const severity = {
  idle: 0,
  ready: 1,
  connecting: 2,
  blocked: 3,
  backoff: 4,
  closed: 5,
};
/** Of several parts the one that is worst off; parts that were never used do not count. */
export function worstState(states) {
  return states
    .filter(({ value }) => value !== 'idle')
    .toSorted((a, b) => severity[b.value] - severity[a.value])[0];
}
