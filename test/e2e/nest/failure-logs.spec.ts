import { Catch, Controller, Logger, UseFilters, UseGuards, type ExceptionFilter } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, RpcException } from '@nestjs/microservices';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import {
  DeadLetter,
  RemoteError,
  Retry,
  StorkClient,
  StorkContext,
  StorkModule,
  storkMicroservice,
  type StorkModuleOptions,
} from 'nestjs-stork';
import { Test } from '@nestjs/testing';
import { LogLines, Shop } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

@Catch()
class OfHttp implements ExceptionFilter {
  catch(): never {
    throw new TypeError('response.status is not a function');
  }
}

@Controller()
class Orders {
  @Retry({ maxRetries: 1, delayMs: 0, redeliverDelaysMs: [1] })
  @EventPattern<string>('created')
  created(): never {
    throw new Error('db down, password=secret');
  }

  @UseFilters(OfHttp)
  @EventPattern<string>('filtered')
  filtered(): never {
    throw new Error('db down');
  }

  @DeadLetter({ enabled: false })
  @EventPattern<string>('dropped')
  dropped(): never {
    throw new Error('no stock');
  }

  @EventPattern<string>('rejected')
  rejected(@Ctx() context: StorkContext): never {
    context.deadLetter('not ours');
    throw new Error('after all');
  }

  @MessagePattern('down')
  down(): never {
    throw Object.assign(new Error('db down, password=secret'), { code: 'ECONNREFUSED' });
  }

  @MessagePattern('unsendable')
  unsendable(): unknown {
    return { v: 10n };
  }

  @UseGuards({
    canActivate: () => {
      throw new RpcException({ status: 401, message: 'no token' });
    },
  })
  @EventPattern<string>('guarded')
  guarded(): void {}

  @MessagePattern('sold-out')
  soldOut(): never {
    throw new RpcException({ code: 'SOLD_OUT', message: 'password=teapot' });
  }
}

async function start(options: Partial<StorkModuleOptions> = {}) {
  const shop = new Shop();
  const logs = new LogLines();
  const testing = await Test.createTestingModule({
    imports: [
      StorkModule.forRoot({
        transports: { main: shop.transport({ concurrency: 1 }) },
        retry: { maxRetries: 0 },
        ...options,
      }),
    ],
    controllers: [Orders],
  }).compile();
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: logs });
  onTestFinished(() => app.close());
  await app.listen();
  const client = app.get(StorkClient);
  const refusal = (pattern: string): Promise<RemoteError> =>
    client.request(pattern, {}).then(
      () => expect.fail('it was answered'),
      (error: RemoteError) => error,
    );
  return { client, shop, logs, refusal, failures: () => logs.containing(' failed: ') };
}

describe('the log of a failed event', () => {
  it('has one line for each attempt, with the error and what follows', async () => {
    const { client, shop, failures } = await start();
    await client.publish('created', {}, { messageId: 'm-1' });
    await shop.deadLetters(1);
    const attempt = (number: number): string =>
      `main: handler "Orders.created", message "m-1", pattern "created", attempt ${number} of 3 failed: ` +
      'Error: db down, password=secret; ';
    expect(failures()).toEqual([
      `${attempt(1)}next attempt in process in 0 ms`,
      `${attempt(2)}next attempt through the broker in 1 ms`,
      `${attempt(3)}dead-lettered in "${shop.queue}.dlq", reason retries-exhausted`,
    ]);
  });

  it('hides what redact removes', async () => {
    const redact = (text: string): string => text.replace(/password=\w+/, '…');
    const { client, shop, failures } = await start({ deadLetter: { redact } });
    await client.publish('created', {});
    await shop.deadLetters(1);
    expect(failures()).toHaveLength(3);
    expect(failures().join()).not.toContain('secret');
  });

  it('has what an exception filter made of the error beside it', async () => {
    const { client, shop, failures } = await start();
    await client.publish('filtered', {});
    const [deadLetter] = await shop.deadLetters(1);
    expect(deadLetter!['stork-filter-error']).toBe('TypeError: response.status is not a function');
    expect(failures()).toEqual([
      expect.stringContaining(
        'failed: Error: db down; its exception filter gave TypeError: response.status is not a function; dead-lettered',
      ),
    ]);
  });

  it('says that a guard has refused the message', async () => {
    const { client, shop, failures } = await start({ retry: { maxRetries: 3 } });
    await client.publish('guarded', {});
    expect((await shop.deadLetters(1))[0]).toMatchObject({ 'stork-death-reason': 'fatal' });
    expect(failures()).toEqual([expect.stringMatching(/Error: no token; .*, reason fatal$/)]);
  });

  it('says that a message is dropped', async () => {
    const { client, shop, failures } = await start();
    await client.publish('dropped', {});
    await shop.settled();
    expect(failures()).toEqual([expect.stringMatching(/Error: no stock; the message is dropped/)]);
  });

  it('has the handler’s decision and its later error', async () => {
    const { client, shop, logs } = await start();
    await client.publish('rejected', {});
    await shop.deadLetters(1);
    expect(logs.containing('failed after its reject: Error: after all')).toHaveLength(1);
    expect(logs.containing('not ours; dead-lettered in ')).toHaveLength(1);
  });

  it('says where a message without a handler goes', async () => {
    const { client, shop, logs } = await start();
    await client.publish('unknown', {}, { messageId: 'm-1' });
    await shop.deadLetters(1);
    expect(logs.containing('message "m-1"')).toEqual([
      `main: message "m-1", pattern "unknown", reached no handler and is dead-lettered in "${shop.queue}.dlq", ` +
        'reason no-handler: NoHandlerError: no handler for pattern "unknown"',
    ]);
  });
});

describe('the log of a failed request', () => {
  it('has the stack of an unexpected error', async () => {
    const { refusal, failures } = await start();
    await refusal('down');
    expect(failures()).toEqual([
      expect.stringMatching(
        /attempt 1 of 1 failed: Error: db down, password=secret; its caller gets the error HANDLER_FAILED\nError: db down.*\n +at /,
      ),
    ]);
  });

  it('has the stack of what cannot be encoded', async () => {
    const { refusal, failures, logs } = await start();
    await refusal('unsendable');
    expect(failures()).toEqual([expect.stringMatching(/TypeError: .*BigInt.*\nTypeError: .*\n +at /)]);
    expect(logs.warnings).toEqual(failures());
  });

  it('has one line for a deliberate reply', async () => {
    const { refusal, failures } = await start();
    await refusal('sold-out');
    expect(failures()).toEqual([expect.stringMatching(/its caller gets the error SOLD_OUT$/)]);
  });
});

describe('what the caller of a failed request gets', () => {
  it('is name and message of an unexpected error, without its fields', async () => {
    const { refusal } = await start();
    const error = await refusal('down');
    expect(error).toMatchObject({
      remoteName: 'Error',
      message: 'db down, password=secret',
      code: 'HANDLER_FAILED',
      details: undefined,
    });
  });

  it('is redacted, unless it is a deliberate reply', async () => {
    const redact = (text: string): string => text.replace(/password=\w+/, '…');
    const { refusal } = await start({ deadLetter: { redact } });
    expect((await refusal('down')).message).toBe('db down, …');
    expect((await refusal('sold-out')).message).toBe('password=teapot');
  });

  it('is masked by exposeErrors: false, unless it is a deliberate reply', async () => {
    const { refusal } = await start({ exposeErrors: false });
    expect(await refusal('down')).toMatchObject({
      remoteName: 'Error',
      message: 'Internal server error',
      code: 'HANDLER_FAILED',
      retryable: true,
    });
    expect(await refusal('sold-out')).toMatchObject({ code: 'SOLD_OUT', message: 'password=teapot' });
  });

  it('is exposed on a transport that overrides the module', async () => {
    const shop = new Shop();
    const { refusal } = await start({
      exposeErrors: false,
      transports: { main: shop.transport({ exposeErrors: true }) },
    });
    expect((await refusal('down')).message).toBe('db down, password=secret');
  });
});
