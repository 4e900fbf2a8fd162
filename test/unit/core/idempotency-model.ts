import * as fc from 'fast-check';
import { expect } from 'vitest';
import type { IdempotencyStore, StoredReply } from '../../../lib/core/idempotency/idempotency-store.js';

/** Longer than all steps of a test take, so that nothing expires between steps, even on a real clock. */
const unitMs = 1_000_000;

export type Step =
  | { readonly kind: 'begin' | 'renew' | 'complete'; readonly owner: string; readonly units: number }
  | { readonly kind: 'release'; readonly owner: string }
  | { readonly kind: 'pass'; readonly units: number };

const owners = fc.constantFrom('a', 'b');
const units = fc.integer({ min: 1, max: 4 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constantFrom('begin' as const, 'begin' as const, 'renew' as const, 'complete' as const),
      owner: owners,
      units,
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('release' as const), owner: owners }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('pass' as const), units }) },
);

export const steps = fc.array(step, { maxLength: 40, size: 'max' });

interface Completed {
  readonly owner: string;
  readonly expiresAt: number;
  readonly reply: StoredReply;
}

/** Checks the answers of a store about one key against a model of its state. */
export class IdempotencyModel {
  readonly #store: IdempotencyStore;
  readonly #passTime: (ms: number) => Promise<unknown>;
  readonly #key: string;
  /** When the leases of the owners expire, in units. */
  readonly #leases = new Map<string, number>();
  #completed: Completed | undefined;
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
    const holders = [...this.#leases.keys()].filter((each) => this.#holds(each));
    expect(holders.length, `lease holders: ${holders.join(', ')}`).toBeLessThanOrEqual(1);
  }

  async #pass(count: number): Promise<void> {
    this.#now += count;
    await this.#passTime(count * unitMs);
    if (this.#completed !== undefined && this.#completed.expiresAt <= this.#now) this.#completed = undefined;
  }

  async #begin(owner: string, count: number): Promise<void> {
    const outcome = await this.#store.begin(this.#key, owner, count * unitMs);
    if (this.#completed !== undefined) {
      const { body, contentType } = this.#completed.reply;
      expect(outcome).toEqual({ state: 'done', reply: { body, contentType } });
      return;
    }
    expect(outcome).toEqual({ state: this.#isLeasedToAnother(owner) ? 'in-progress' : 'acquired' });
    if (outcome.state === 'acquired') this.#leases.set(owner, this.#now + count);
  }

  async #renew(owner: string, count: number): Promise<void> {
    const renewed = await this.#store.renew(this.#key, owner, count * unitMs);
    expect(renewed, `renewal of ${owner}`).toBe(this.#holds(owner));
    if (renewed) this.#leases.set(owner, this.#now + count);
  }

  async #complete(owner: string, count: number): Promise<void> {
    const reply = { body: Buffer.from(String(++this.#replies)), contentType: 'text/plain' };
    const written = await this.#store.complete(this.#key, owner, count * unitMs, reply);
    const expected =
      this.#completed === undefined ? !this.#isLeasedToAnother(owner) : this.#completed.owner === owner;
    expect(written, `completion by ${owner}`).toBe(expected);
    if (!written || this.#completed !== undefined) return;
    this.#leases.delete(owner);
    this.#completed = { owner, expiresAt: this.#now + count, reply };
  }

  async #release(owner: string): Promise<void> {
    expect(await this.#store.release(this.#key, owner), `release by ${owner}`).toBe(this.#holds(owner));
    if (this.#holds(owner)) this.#leases.delete(owner);
  }

  #holds(owner: string): boolean {
    return (this.#leases.get(owner) ?? 0) > this.#now;
  }

  #isLeasedToAnother(owner: string): boolean {
    return [...this.#leases.keys()].some((each) => each !== owner && this.#holds(each));
  }
}
