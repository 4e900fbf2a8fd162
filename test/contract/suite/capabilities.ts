import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, Payload } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { StorkContext } from 'nestjs-stork';
import type { OptionalMessageOption } from '../../../lib/core/port/driver.js';
import { Gate, Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';
import { redeliveryContract } from './retry.js';

const values: Required<Record<OptionalMessageOption, number | boolean | string>> = {
  delayMs: 100,
  expiresInMs: 100,
  priority: 1,
  partition: 1,
  persistent: false,
  appId: 'app',
};

/** Options that only some brokers support; the others refuse them by name. */
export function capabilityContract(harness: DriverHarness): void {
  const { messageOptions } = harness.capabilities;
  const can = (option: OptionalMessageOption): boolean => messageOptions.has(option);

  for (const option of Object.keys(values) as OptionalMessageOption[]) {
    if (can(option)) continue;
    it(`refuses ${option} by name`, async () => {
      const { client } = await startApp(harness, { controllers: [Probe] });
      await expect(client.publish('probe', 1, { [option]: values[option] })).rejects.toThrow(
        `${option}: expected nothing`,
      );
    });
  }

  redeliveryContract(harness);

  if (can('delayMs')) {
    it('delivers a delayed message after its delay, never early', async () => {
      const seen = new Seen<number>();
      @Controller()
      class Late {
        @EventPattern<string>('late')
        late(): void {
          seen.add(Date.now());
        }
      }
      const { client } = await startApp(harness, { controllers: [Late] });
      const sentAt = Date.now();
      await client.publish('late', 1, { delayMs: 200 });
      const [at] = await seen.count(1);
      expect(at! - sentAt).toBeGreaterThanOrEqual(200);
    });
  }

  if (can('expiresInMs')) {
    it('dead-letters an expired message that no consumer took', async () => {
      const gate = new Gate();
      const started = new Seen<number>();
      @Controller()
      class Busy {
        @EventPattern<string>('work')
        async work(@Payload() n: number): Promise<void> {
          started.add(n);
          await gate.opened;
        }
      }
      const transport = { concurrency: 1, ...harness.oneAtATime };
      const { client, deadLetters } = await startApp(harness, { controllers: [Busy], transport });
      await client.publish('work', 1);
      await started.count(1);
      await client.publish('work', 2, { expiresInMs: 100 });
      expect((await deadLetters(1))[0]!.body!.toString()).toBe('2');
      gate.open();
      expect(started.all).toEqual([1]);
    });
  }

  if (can('partition')) {
    it('sends to the given partition, and names one that does not exist', async () => {
      const seen = new Seen<number>();
      @Controller()
      class Partitioned {
        @EventPattern<string>('part')
        part(@Payload() n: number): void {
          seen.add(n);
        }
      }
      const { client } = await startApp(harness, { controllers: [Partitioned] });
      for (let n = 0; n < 20; n++) await client.publish('part', n, { partition: 1 });
      expect(await seen.count(20)).toEqual(Array.from({ length: 20 }, (_, n) => n));
      await expect(client.publish('part', 1, { partition: 9_999 })).rejects.toThrow('9999');
    });
  }

  if (can('appId')) {
    it('carries appId and persistence', async () => {
      const seen = new Seen<StorkContext>();
      @Controller()
      class Reads {
        @EventPattern<string>('read')
        read(@Ctx() context: StorkContext): void {
          seen.add(context);
        }
      }
      const { client } = await startApp(harness, { controllers: [Reads] });
      await client.publish('read', 1, { appId: 'shop', persistent: false });
      expect(harness.propertiesOf((await seen.count(1))[0]!)).toEqual({ appId: 'shop', persistent: false });
    });
  }

  if (can('priority')) {
    it('takes a message of higher priority first', async () => {
      const gate = new Gate();
      const seen = new Seen<number>();
      @Controller()
      class Busy {
        @EventPattern<string>('work')
        async work(@Payload() n: number): Promise<void> {
          seen.add(n);
          await gate.opened;
        }
      }
      const transport = { concurrency: 1, ...harness.oneAtATime, ...harness.withPriority };
      const { client } = await startApp(harness, { controllers: [Busy], transport });
      await client.publish('work', 0);
      await seen.count(1);
      await client.publish('work', 1, { priority: 0 });
      await client.publish('work', 2, { priority: 5 });
      gate.open();
      expect(await seen.count(3)).toEqual([0, 2, 1]);
    });
  }
}

@Controller()
class Probe {
  @EventPattern<string>('probe')
  probe(): void {}
}
