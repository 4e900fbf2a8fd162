import { AsyncLocalStorage } from 'node:async_hooks';
import {
  Controller,
  UseGuards,
  UseInterceptors,
  UsePipes,
  type CanActivate,
  type NestInterceptor,
  type PipeTransform,
} from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { Retry, StorkContext } from 'nestjs-stork';
import { Seen, startApp } from '../app.js';
import type { DriverHarness } from '../harness.js';

interface Job {
  readonly n: number;
  readonly tenant?: string;
}

/** The context of a message, and an `AsyncLocalStorage` that is entered for it */
export function contextContract(harness: DriverHarness): void {
  const jobs: readonly Job[] = Array.from({ length: 20 }, (_, n) =>
    n % 2 === 0 ? { n, tenant: `t${n}` } : { n },
  );

  it.each([1, 10])(
    'as an `AsyncLocalStorage` ends with the message, at concurrency %i',
    async (concurrency) => {
      const tenants = new AsyncLocalStorage<string>();
      const seen = new Seen<readonly [Job, string | undefined]>();
      const enter = ({ tenant }: Job): void => {
        if (tenant !== undefined) tenants.enterWith(tenant);
      };
      const guard: CanActivate = {
        canActivate: (context) => {
          enter(context.switchToRpc().getData<Job>());
          return true;
        },
      };
      const interceptor: NestInterceptor = {
        intercept: (context, next) => {
          enter(context.switchToRpc().getData<Job>());
          return next.handle();
        },
      };
      const pipe: PipeTransform = {
        transform: (job: Job) => {
          enter(job);
          return job;
        },
      };
      const see = (job: Job): void => seen.add([job, tenants.getStore()]);
      @Controller()
      class Jobs {
        @UseGuards(guard)
        @EventPattern<string>('guard')
        guard(@Payload() job: Job): void {
          see(job);
        }
        @UseInterceptors(interceptor)
        @EventPattern<string>('interceptor')
        interceptor(@Payload() job: Job): void {
          see(job);
        }
        @UsePipes(pipe)
        @EventPattern<string>('pipe')
        pipe(@Payload() job: Job): void {
          // With Nest 11 a handler does not see what its pipes enter.
          if (tenants.getStore() === undefined) seen.add([job, job.tenant]);
          else see(job);
        }
        @EventPattern<string>('handler')
        async handler(@Payload() job: Job): Promise<void> {
          const before = tenants.getStore();
          enter(job);
          await new Promise(setImmediate);
          seen.add([job, job.tenant === undefined ? before : tenants.getStore()]);
        }
        @UseGuards(guard)
        @Retry({ maxRetries: 1, delayMs: 1 })
        @EventPattern<string>('retry')
        retry(@Payload() job: Job, @Ctx() { attempt }: StorkContext): void {
          if (attempt === 1) throw new Error('again');
          see(job);
        }
        @UseGuards(guard)
        @MessagePattern('request')
        request(@Payload() job: Job): void {
          see(job);
        }
      }
      const { client } = await startApp(harness, { controllers: [Jobs], transport: { concurrency } });
      const patterns = ['guard', 'interceptor', 'pipe', 'handler', 'retry'];
      await Promise.all(patterns.flatMap((pattern) => jobs.map((job) => client.publish(pattern, job))));
      await Promise.all(jobs.map((job) => client.request('request', job)));
      const all = await seen.count(jobs.length * (patterns.length + 1));
      expect(all.filter(([{ tenant }, store]) => tenant !== store)).toEqual([]);
      expect(tenants.getStore()).toBeUndefined();
    },
  );

  it('of a message shows its headers as text, and where it comes from', async () => {
    const seen = new Seen<StorkContext>();
    @Controller()
    class Jobs {
      @EventPattern<string>('job')
      job(@Ctx() context: StorkContext): void {
        seen.add(context);
      }
    }
    const { client, source } = await startApp(harness, { controllers: [Jobs] });
    const at = new Date('2026-01-02T03:04:05.000Z');
    const headers = {
      text: 'Grüße',
      bytes: Buffer.from('Grüße'),
      count: 7,
      flag: false,
      at,
      list: ['a', 'b'],
      long: 'x'.repeat(10_000),
      constructor: 'Job',
    };
    await client.publish('job', { n: 1 }, { headers });
    const context = (await seen.count(1))[0]!;
    const names = [...Object.keys(headers), 'toString', 'absent'];
    expect(Object.fromEntries(names.map((name) => [name, context.header(name)]))).toEqual({
      text: 'Grüße',
      bytes: 'Grüße',
      count: '7',
      flag: 'false',
      at: at.toISOString(),
      list: 'a',
      long: headers.long,
      constructor: 'Job',
      toString: undefined,
      absent: undefined,
    });
    expect([context.source, context.getPattern(), context.getArgByIndex(1)]).toEqual([
      source,
      'job',
      { n: 1 },
    ]);
    expect(context.getMessage()).toBeDefined();
    const position = [context.routingKey, context.partition, context.offset];
    expect(position).toEqual(
      harness.capabilities.destinations.has('queue')
        ? [source, undefined, undefined]
        : [undefined, expect.any(Number), expect.stringMatching(/^\d+$/)],
    );
  });

  it('as an `AsyncLocalStorage` is that of the application where it was started', async () => {
    const started = new AsyncLocalStorage<string>();
    const seen = new Seen<string | undefined>();
    @Controller()
    class Jobs {
      @EventPattern<string>('job')
      job(): void {
        seen.add(started.getStore());
      }
    }
    const { client } = await started.run('at the start', () => startApp(harness, { controllers: [Jobs] }));
    await started.run('at the publish', () => client.publish('job', {}));
    expect(await seen.count(1)).toEqual(['at the start']);
  });
}
