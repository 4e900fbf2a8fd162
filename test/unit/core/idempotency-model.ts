import * as fc from 'fast-check';
import { expect } from 'vitest';
import type { IdempotencyStore, StoredReply } from '../../../lib/core/idempotency/idempotency-store.js';

/** Longer than a whole run of steps takes, so that on a store whose time is real only `pass` lets it pass. */
const unitMs = 1_000_000;

export type Step =
  | { readonly kind: 'begin' | 'renew' | 'complete'; readonly owner: string; readonly units: number }
  | { readonly kind: 'release'; readonly owner: string }
  | { readonly kind: 'pass'; readonly units: number };

const owner = fc.constantFrom('a', 'b');
const units = fc.integer({ min: 1, max: 4 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('begin' as const, 'begin' as const, 'renew' as const, 'complete' as const),
      owner,
      units,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('release' as const), owner }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('pass' as const), units }) },
);

export const steps = fc.array(step, { maxLength: 40, size: 'max' });

interface Done {
  readonly owner: string;
  readonly until: number;
  readonly reply: StoredReply;
}

/** What a store must answer about one key, told only by what it was asked before. */
export class IdempotencyModel {
  readonly #store: IdempotencyStore;
  readonly #passTime: (ms: number) => Promise<unknown>;
  readonly #key: string;
  /** Ends of the leases that owners were promised. */
  readonly #leases = new Map<string, number>();
  #done: Done | undefined;
  #now = 0;
  #replies = 0;

  constructor(store: IdempotencyStore, key: string, passTime: (ms: number) => Promise<unknown>) {
    this.#store = store;
    this.#key = key;
    this.#passTime = passTime;
  }

  async run(next: Step): Promise<void> {
    if (next.kind === 'pass') await this.#pass(next.units);
    else if (next.kind === 'begin') await this.#begin(next.owner, next.units);
    else if (next.kind === 'renew') await this.#renew(next.owner, next.units);
    else if (next.kind === 'complete') await this.#complete(next.owner, next.units);
    else await this.#release(next.owner);
    const atWork = [...this.#leases.keys()].filter((each) => this.#holds(each));
    expect(atWork.length, `at work: ${atWork.join(', ')}`).toBeLessThanOrEqual(1);
  }

  async #pass(count: number): Promise<void> {
    this.#now += count;
    await this.#passTime(count * unitMs);
    if (this.#done !== undefined && this.#done.until <= this.#now) this.#done = undefined;
  }

  async #begin(who: string, count: number): Promise<void> {
    const outcome = await this.#store.begin(this.#key, who, count * unitMs);
    if (this.#done !== undefined) {
      const { body, contentType } = this.#done.reply;
      expect(outcome).toEqual({ state: 'done', reply: { body, contentType } });
      return;
    }
    expect(outcome).toEqual({ state: this.#anotherThan(who) ? 'in-progress' : 'acquired' });
    if (outcome.state === 'acquired') this.#leases.set(who, this.#now + count);
  }

  async #renew(who: string, count: number): Promise<void> {
    const renewed = await this.#store.renew(this.#key, who, count * unitMs);
    expect(renewed, `renewal of ${who}`).toBe(this.#holds(who));
    if (renewed) this.#leases.set(who, this.#now + count);
  }

  async #complete(who: string, count: number): Promise<void> {
    const reply = { body: Buffer.from(String(++this.#replies)), contentType: 'text/plain' };
    const written = await this.#store.complete(this.#key, who, count * unitMs, reply);
    const expected = this.#done === undefined ? !this.#anotherThan(who) : this.#done.owner === who;
    expect(written, `completion by ${who}`).toBe(expected);
    if (!written || this.#done !== undefined) return;
    this.#leases.delete(who);
    this.#done = { owner: who, until: this.#now + count, reply };
  }

  async #release(who: string): Promise<void> {
    expect(await this.#store.release(this.#key, who), `release by ${who}`).toBe(this.#holds(who));
    if (this.#holds(who)) this.#leases.delete(who);
  }

  #holds(who: string): boolean {
    return (this.#leases.get(who) ?? 0) > this.#now;
  }

  #anotherThan(who: string): boolean {
    return [...this.#leases.keys()].some((each) => each !== who && this.#holds(each));
  }
}
