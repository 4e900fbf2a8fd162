import { deepEqual, equal, ok, rejects } from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { IdempotencyStore } from '../core/idempotency/idempotency-store.js';

/** One test of a suite; give it to any test runner. @publicApi */
export interface SuiteTest {
  readonly name: string;
  /** Rejects with what is wrong. */
  readonly run: () => Promise<void>;
}

/** @publicApi */
export interface IdempotencyStoreSuiteOptions {
  /** Lets `ms` milliseconds pass on the store's clock. @defaultValue waits as long */
  readonly passTime?: (ms: number) => Promise<unknown>;
}

/**
 * What every `IdempotencyStore` must do, as tests for any runner:
 *
 * ```ts
 * for (const { name, run } of idempotencyStoreSuite(() => new MyStore())) it(name, run);
 * ```
 *
 * Each test makes a store, closes it again and uses keys of its own, so the stores may share one database. The longest takes
 * about two seconds where time is real.
 *
 * @publicApi
 */
export function idempotencyStoreSuite(
  createStore: () => IdempotencyStore | Promise<IdempotencyStore>,
  { passTime = (ms) => sleep(ms) }: IdempotencyStoreSuiteOptions = {},
): readonly SuiteTest[] {
  return Object.entries(tests).map(([name, test]) => ({
    name,
    run: async () => {
      const store = await createStore();
      try {
        await test({ store, passTime, key: randomUUID(), a: `a-${randomUUID()}`, b: `b-${randomUUID()}` });
      } finally {
        await store.close?.();
      }
    },
  }));
}

interface TestContext {
  readonly store: IdempotencyStore;
  readonly passTime: (ms: number) => Promise<unknown>;
  readonly key: string;
  /** Two owners. */
  readonly a: string;
  readonly b: string;
}

/** Longer than any test takes. */
const long = 600_000;
/** Over after `passed`, and long enough for a slow machine to do the few calls before. */
const short = 1_000;
const passed = 1_100;

const tests: Readonly<Record<string, (given: TestContext) => Promise<void>>> = {
  'lets the first owner work and tells another that it is in progress': async ({ store, key, a, b }) => {
    equal(await begin(store, key, a), 'acquired');
    equal(await begin(store, key, b), 'in-progress');
  },

  'lets exactly one of many that begin at once work': async ({ store, key }) => {
    const states = await Promise.all(Array.from({ length: 20 }, () => begin(store, key, randomUUID())));
    equal(states.filter((state) => state === 'acquired').length, 1);
    equal(states.filter((state) => state === 'in-progress').length, 19);
  },

  'lets an owner begin again while its lease runs, and counts the lease from then': async (given) => {
    const { store, key, a, b, passTime } = given;
    equal(await begin(store, key, a, short), 'acquired');
    equal(await begin(store, key, a, long), 'acquired');
    await passTime(passed);
    equal(await begin(store, key, b), 'in-progress');
  },

  'gives a key whose lease has run out to the next': async ({ store, key, a, b, passTime }) => {
    await begin(store, key, a, short);
    await passTime(passed);
    equal(await begin(store, key, b), 'acquired');
    equal(await begin(store, key, a), 'in-progress');
  },

  'counts a renewed lease from the renewal': async ({ store, key, a, b, passTime }) => {
    await begin(store, key, a, short);
    equal(await store.renew(key, a, long), true);
    await passTime(passed);
    equal(await begin(store, key, b), 'in-progress');
  },

  'renews only a lease that runs, for the owner that has it': async ({ store, key, a, b, passTime }) => {
    equal(await store.renew(key, a, long), false);
    await begin(store, key, a, short);
    equal(await store.renew(key, b, long), false);
    await passTime(passed);
    equal(await store.renew(key, a, long), false);
    equal(await begin(store, key, b), 'acquired');
    equal(await store.renew(key, a, long), false);
    await store.complete(key, b, long);
    equal(await store.renew(key, b, long), false);
  },

  'says done to everybody once the work is completed': async ({ store, key, a, b }) => {
    await begin(store, key, a);
    equal(await store.complete(key, a, long), true);
    for (const owner of [a, b]) {
      const outcome = await store.begin(key, owner, long);
      equal(outcome.state, 'done');
      equal(outcome.state === 'done' && outcome.reply, undefined);
    }
  },

  'gives back the bytes and the content type of a reply': async ({ store, a, b }) => {
    const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    for (const body of [everyByte, Buffer.alloc(0), Buffer.alloc(1_048_576, 'ü')]) {
      const key = randomUUID();
      const expected = Buffer.from(body);
      await begin(store, key, a);
      await store.complete(key, a, long, { body, contentType: 'application/x-test' });
      // Whose buffer it was may use it for something else.
      body.fill(0);
      const outcome = await store.begin(key, b, long);
      ok(outcome.state === 'done' && outcome.reply !== undefined, 'done, with the reply');
      equal(outcome.reply.contentType, 'application/x-test');
      ok(expected.equals(outcome.reply.body), `the ${expected.length} bytes that were stored`);
    }
  },

  'forgets what was done after its time, and not before': async ({ store, key, a, b, passTime }) => {
    await begin(store, key, a, short);
    await store.complete(key, a, short * 2);
    await passTime(passed);
    equal(await begin(store, key, b), 'done');
    await passTime(passed);
    equal(await begin(store, key, b), 'acquired');
  },

  'writes nothing for an owner that lost its lease to another': async ({ store, key, a, b, passTime }) => {
    await begin(store, key, a, short);
    await passTime(passed);
    await begin(store, key, b);
    equal(await store.complete(key, a, long, reply('late')), false);
    equal(await store.release(key, a), false);
    equal(await begin(store, key, randomUUID()), 'in-progress');
    equal(await store.complete(key, b, long, reply('first')), true);
    equal(await store.complete(key, a, long, reply('later')), false);
    deepEqual(await readReply(store, key), reply('first'));
  },

  'takes the completion of an owner whose lease ran out while nobody took it': async (given) => {
    const { store, key, a, b, passTime } = given;
    await begin(store, key, a, short);
    await passTime(passed);
    equal(await store.complete(key, a, long, reply('done')), true);
    equal(await begin(store, key, b), 'done');
    deepEqual(await readReply(store, key), reply('done'));
  },

  'takes a completion that is told twice, and keeps the first': async ({ store, key, a }) => {
    await begin(store, key, a);
    equal(await store.complete(key, a, long, reply('first')), true);
    equal(await store.complete(key, a, long, reply('second')), true);
    deepEqual(await readReply(store, key), reply('first'));
  },

  'frees a released key for the next': async ({ store, key, a, b }) => {
    await begin(store, key, a);
    equal(await store.release(key, a), true);
    equal(await begin(store, key, b), 'acquired');
  },

  'releases only a lease, for the owner that has it': async ({ store, key, a, b }) => {
    equal(await store.release(key, a), false);
    await begin(store, key, a);
    equal(await store.release(key, b), false);
    equal(await begin(store, key, b), 'in-progress');
    await store.complete(key, a, long);
    equal(await store.release(key, a), false);
    equal(await begin(store, key, b), 'done');
  },

  'keeps keys apart, whatever they are made of': async ({ store, a, b }) => {
    const plain = randomUUID();
    const keys = ['', ' ', ':', '\n', '/ü😀', '*', '__proto__', 'x'.repeat(10_000)].map((end) => plain + end);
    for (const key of keys) equal(await begin(store, key, a), 'acquired');
    await store.complete(keys[0]!, a, long);
    for (const key of keys.slice(1)) equal(await begin(store, key, b), 'in-progress');
    for (const key of ['__proto__', 'constructor']) equal(await store.release(key, randomUUID()), false);
  },

  'refuses bad input by name': async ({ store, key, a }) => {
    await rejectsAsInvalid('key', () => store.begin('', a, long));
    await rejectsAsInvalid('owner', () => store.begin(key, '', long));
    await rejectsAsInvalid('owner', () => store.release(key, ''));
    for (const duration of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      await rejectsAsInvalid('leaseMs', () => store.begin(key, a, duration));
      await rejectsAsInvalid('leaseMs', () => store.renew(key, a, duration));
      await rejectsAsInvalid('ttlMs', () => store.complete(key, a, duration));
    }
    equal(await begin(store, key, a), 'acquired');
  },
};

async function begin(store: IdempotencyStore, key: string, owner: string, leaseMs = long): Promise<string> {
  return (await store.begin(key, owner, leaseMs)).state;
}

function reply(text: string) {
  return { body: Buffer.from(text), contentType: 'text/plain' };
}

async function readReply(store: IdempotencyStore, key: string) {
  const outcome = await store.begin(key, randomUUID(), long);
  if (outcome.state !== 'done' || outcome.reply === undefined) return outcome;
  const { body, contentType } = outcome.reply;
  return { body: Buffer.from(body), contentType };
}

async function rejectsAsInvalid(name: string, call: () => Promise<unknown>): Promise<void> {
  await rejects(call, (error: { code?: unknown; message?: unknown }) => {
    equal(error.code, 'CONFIG');
    ok(String(error.message).startsWith(`${name}: expected `), `names ${name}: ${String(error.message)}`);
    return true;
  });
}
