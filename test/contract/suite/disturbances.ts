import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { Idempotent, Retry, StorkContext, type CommonTransportOptions } from 'nestjs-stork';
import { seeded } from '../../support/seeded.js';
import { deathReason, Seen, startApp, uniqueName, type RunningApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

const messages = 60;
const keys = 7;
const disturbances = 3;
/** Upper bound of the handler calls before each disturbance. */
const callsBetween = 20;

/** What the handler does with one message. */
interface Plan {
  readonly key: string;
  /** Its first calls. Few of them wait long: a requeue takes a second. */
  readonly failures: readonly ('throws' | 'nacks' | 'requests a retry')[];
  /** The call after them. */
  readonly end: 'handled' | 'dead-lettered';
}

function planOf(random: () => number): Plan {
  const failure = (): Plan['failures'][number] => {
    const chance = random();
    if (chance < 0.1) return 'nacks';
    return chance < 0.2 ? 'requests a retry' : 'throws';
  };
  return {
    key: `k${Math.floor(random() * keys)}`,
    failures: Array.from({ length: Math.floor(random() * 4) }, failure),
    end: random() < 0.1 ? 'dead-lettered' : 'handled',
  };
}

/** The numbers of the messages that ended so, ascending. */
type Ended = Readonly<Record<Plan['end'], readonly number[]>>;

interface Disturbable {
  readonly random: () => number;
  /** Stops the application and starts another, which overlaps with the first in a rolling restart. */
  readonly restart: (isRolling: boolean) => Promise<void>;
}

/** applications that stop, and connections that are lost, while messages run and wait */
export function disturbanceContract(harness: DriverHarness): void {
  it('loses and repeats nothing when applications are restarted at random moments', () =>
    disturbed(
      {},
      ({ random, restart }) => restart(random() < 0.5),
      (ended, planned) => expect(ended).toEqual(planned),
    ));

  it('loses nothing when connections are lost at random moments', () =>
    disturbed(
      harness.impatient,
      ({ random, restart }) => (random() < 0.7 ? harness.dropConnections() : restart(random() < 0.5)),
      (ended, planned) => {
        const unique = (numbers: readonly number[]): readonly number[] => [...new Set(numbers)];
        expect(unique(ended.handled)).toEqual(planned.handled);
        expect(unique(ended['dead-lettered'])).toEqual(planned['dead-lettered']);
      },
    ));

  async function disturbed(
    transport: CommonTransportOptions,
    disturb: (app: Disturbable) => Promise<void>,
    check: (ended: Ended, planned: Ended) => void,
  ): Promise<void> {
    const seed = Number(process.env['STORK_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
    const random = seeded(seed);
    const plans = Array.from({ length: messages }, () => planOf(random));
    const calls = new Map<number, number>();
    const called = new Seen<number>();
    const handled: number[] = [];

    @Controller()
    @Retry({ maxRetries: 20, delayMs: 40, maxDelayMs: 400, redeliverDelaysMs: [200, 200, 200] })
    class Worker {
      @EventPattern<string>('work')
      async work(@Payload() n: number, @Ctx() context: StorkContext): Promise<void> {
        const call = calls.get(n) ?? 0;
        calls.set(n, call + 1);
        called.add(n);
        await new Promise((resolve) => setImmediate(resolve));
        const { failures, end } = plans[n]!;
        const failure = failures[call];
        if (failure === 'throws') throw new Error('its dependency is away');
        if (failure === 'nacks') context.nack();
        else if (failure === 'requests a retry') context.retry({ delayMs: 200 });
        else if (end === 'dead-lettered') context.deadLetter('hopeless');
        else handled.push(n);
      }
    }

    if (random() < 0.5) Idempotent()(Worker);
    const source = uniqueName();
    const start = (): Promise<RunningApp> =>
      startApp(harness, { controllers: [Worker], source, transport: { concurrency: 4, ...transport } });
    try {
      let app = await start();
      const restart = async (isRolling: boolean): Promise<void> => {
        const closed = app.close();
        if (!isRolling) await closed;
        app = await start();
        await closed;
      };
      const { client } = await startApp(harness, { controllers: [], source });
      for (const [n, { key }] of plans.entries()) await client.publish('work', n, { key });
      for (let left = disturbances; left > 0; left--) {
        // Each message is called at least once, so that many calls do come.
        await called.count(Math.min(messages, called.all.length + Math.floor(random() * callsBetween)));
        await disturb({ random, restart });
      }
      const deadLettered = async (): Promise<number[]> =>
        (await harness.deadLetters(source)).map(({ body }) => Number(body));
      await expect
        .poll(async () => new Set([...handled, ...(await deadLettered())]).size, { timeout: 90_000 })
        .toBe(messages);
      await app.settled();
      expect((await harness.deadLetters(source)).every((each) => deathReason(each) === 'rejected')).toBe(
        true,
      );
      const planned = (wanted: Plan['end']): number[] =>
        plans.flatMap(({ end }, n) => (end === wanted ? [n] : []));
      check(
        { handled: ascending(handled), 'dead-lettered': ascending(await deadLettered()) },
        { handled: planned('handled'), 'dead-lettered': planned('dead-lettered') },
      );
    } catch (error) {
      throw new Error(`failed with STORK_SEED=${seed}`, { cause: error });
    }
  }
}

function ascending(numbers: readonly number[]): number[] {
  return numbers.toSorted((a, b) => a - b);
}
