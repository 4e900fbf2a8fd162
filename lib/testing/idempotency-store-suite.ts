import { deepEqual, equal, ok, rejects } from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../core/runtime/clock.js';
import {
  isIdempotencyStoreDefinition,
  type IdempotencyStore,
  type IdempotencyStoreDefinition,
} from '../core/idempotency/idempotency-store.js';

/** One test of a suite, for any test runner. @publicApi */
export interface SuiteTest {
  readonly name: string;
  /** Rejects if the test fails. */
  readonly run: () => Promise<void>;
}

/** @publicApi */
export interface IdempotencyStoreSuiteOptions {
  /** Advances the store's clock by `ms` milliseconds. @defaultValue waits in real time */
  readonly passTime?: (ms: number) => Promise<unknown>;
}

/**
 * Tests of the contract of `IdempotencyStore`, for any test runner:
 *
 * ```ts
 * for (const { name, run } of idempotencyStoreSuite(() => new MyStore())) it(name, run);
 * ```
 *
 * Each test creates a store, itself or from a definition, uses unique keys and closes the store, so that the
 * stores may share one database. In real time the longest test takes about two seconds.
 *
 * @publicApi
 */
export function idempotencyStoreSuite(
  create: () =>
    IdempotencyStore | IdempotencyStoreDefinition | Promise<IdempotencyStore | IdempotencyStoreDefinition>,
  { passTime = (ms) => sleep(ms) }: IdempotencyStoreSuiteOptions = {},
): readonly SuiteTest[] {
  return Object.entries(tests).map(([name, test]) => ({
    name,
    run: async () => {
      const created = await create();
      const store = isIdempotencyStoreDefinition(created)
        ? created.createStore({ clock: systemClock })
        : created;
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
/** Expired after `passed`; long enough for the calls before, even on a slow machine. */
const short = 1_000;
const passed = 1_100;

const tests: Readonly<Record<string, (given: TestContext) => Promise<void>>> = {
  'leases a free key to the first owner and answers in-progress to another': async ({ store, key, a, b }) => {
    equal(await begin(store, key, a), 'acquired');
    equal(await begin(store, key, b), 'in-progress');
  },

  'leases a key to exactly one of many owners that begin at the same time': async ({ store, key }) => {
    const states = await Promise.all(Array.from({ length: 20 }, () => begin(store, key, randomUUID())));
    equal(states.filter((state) => state === 'acquired').length, 1);
    equal(states.filter((state) => state === 'in-progress').length, 19);
  },

  'lets an owner begin again while it holds the lease, and extends the lease from then': async (given) => {
    const { store, key, a, b, passTime } = given;
    equal(await begin(store, key, a, short), 'acquired');
    equal(await begin(store, key, a, long), 'acquired');
    await passTime(passed);
    equal(await begin(store, key, b), 'in-progress');
  },

  'leases a key whose lease has expired to the next owner': async ({ store, key, a, b, passTime }) => {
    await begin(store, key, a, short);
    await passTime(passed);
    equal(await begin(store, key, b), 'acquired');
    equal(await begin(store, key, a), 'in-progress');
  },

  'extends a renewed lease from the renewal': async ({ store, key, a, b, passTime }) => {
    await begin(store, key, a, short);
    equal(await store.renew(key, a, long), true);
    await passTime(passed);
    equal(await begin(store, key, b), 'in-progress');
  },

  'renews only an active lease, for its owner': async ({ store, key, a, b, passTime }) => {
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

  'answers done to every owner once the key is completed': async ({ store, key, a, b }) => {
    await begin(store, key, a);
    equal(await store.complete(key, a, long), true);
    for (const owner of [a, b]) {
      const outcome = await store.begin(key, owner, long);
      equal(outcome.state, 'done');
      equal(outcome.state === 'done' && outcome.reply, undefined);
    }
  },

  'returns the bytes and the content type of a reply': async ({ store, a, b }) => {
    const everyByte = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
    for (const body of [everyByte, Buffer.alloc(0), Buffer.alloc(1_048_576, 'ü')]) {
      const key = randomUUID();
      const expected = Buffer.from(body);
      await begin(store, key, a);
      await store.complete(key, a, long, { body, contentType: 'application/x-test' });
      // The caller may reuse its buffer.
      body.fill(0);
      const outcome = await store.begin(key, b, long);
      ok(outcome.state === 'done' && outcome.reply !== undefined, 'done, with the reply');
      equal(outcome.reply.contentType, 'application/x-test');
      ok(expected.equals(outcome.reply.body), `the ${expected.length} bytes that were stored`);
    }
  },

  'frees a completed key after its time to live, and not before': async ({ store, key, a, b, passTime }) => {
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

  'completes a key whose lease has expired if no other owner took it': async (given) => {
    const { store, key, a, b, passTime } = given;
    await begin(store, key, a, short);
    await passTime(passed);
    equal(await store.complete(key, a, long, reply('done')), true);
    equal(await begin(store, key, b), 'done');
    deepEqual(await readReply(store, key), reply('done'));
  },

  'answers a repeated completion with true, and keeps the first reply': async ({ store, key, a }) => {
    await begin(store, key, a);
    equal(await store.complete(key, a, long, reply('first')), true);
    equal(await store.complete(key, a, long, reply('second')), true);
    deepEqual(await readReply(store, key), reply('first'));
  },

  'leases a released key to the next owner': async ({ store, key, a, b }) => {
    await begin(store, key, a);
    equal(await store.release(key, a), true);
    equal(await begin(store, key, b), 'acquired');
  },

  'releases only an active lease, for its owner': async ({ store, key, a, b }) => {
    equal(await store.release(key, a), false);
    await begin(store, key, a);
    equal(await store.release(key, b), false);
    equal(await begin(store, key, b), 'in-progress');
    await store.complete(key, a, long);
    equal(await store.release(key, a), false);
    equal(await begin(store, key, b), 'done');
  },

  'keeps keys apart, whatever characters they contain': async ({ store, a, b }) => {
    const plain = randomUUID();
    const keys = ['', ' ', ':', '\n', '/ü😀', '*', '__proto__', 'x'.repeat(10_000)].map((end) => plain + end);
    for (const key of keys) equal(await begin(store, key, a), 'acquired');
    await store.complete(keys[0]!, a, long);
    for (const key of keys.slice(1)) equal(await begin(store, key, b), 'in-progress');
    for (const key of ['__proto__', 'constructor']) equal(await store.release(key, randomUUID()), false);
  },

  'rejects an invalid argument and names it': async ({ store, key, a }) => {
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

async function rejectsAsInvalid(name: string, call: () => unknown): Promise<void> {
  await rejects(
    async () => call(),
    (error: { code?: unknown; message?: unknown }) => {
      equal(error.code, 'CONFIG');
      ok(String(error.message).startsWith(`${name}: expected `), `names ${name}: ${String(error.message)}`);
      return true;
    },
  );
}
