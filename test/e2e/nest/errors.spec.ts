import {
  BadRequestException,
  Catch,
  Controller,
  Injectable,
  Logger,
  Scope,
  UnauthorizedException,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
  type CanActivate,
  type ExceptionFilter,
  type NestInterceptor,
  type PipeTransform,
} from '@nestjs/common';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { EMPTY, of, tap, throwError } from 'rxjs';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { connectStork, StorkClient, storkMicroservice, StorkService } from 'nestjs-stork';
import { Shop } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

class MyError extends Error {
  override readonly name = 'MyError';
}

const guard = (decide: () => boolean): CanActivate => ({ canActivate: decide });
const fail = (message: string) => (): never => {
  throw new MyError(message);
};
const pipe: PipeTransform = { transform: fail('in the pipe') };
const before: NestInterceptor = { intercept: fail('before the handler') };
const after: NestInterceptor = { intercept: (_, next) => next.handle().pipe(tap(fail('after the handler'))) };

/** `RpcException` and `HttpException` as another copy of Nest's packages has them. */
class OtherRpcException extends Error {
  getError(): unknown {
    return { code: 'NO_STOCK', message: this.message };
  }
  initMessage(): void {}
}
class OtherHttpException extends Error {
  getStatus(): number {
    return 422;
  }
  getResponse(): unknown {
    return { message: ['no stock'] };
  }
  initMessage(): void {}
}
class SimilarError extends MyError {
  getError(): never {
    throw new Error('unexpected');
  }
  initMessage(): void {}
}

@Catch(MyError)
class Forgives implements ExceptionFilter {
  catch() {
    return of('forgiven');
  }
}
@Catch(MyError)
class Swallows implements ExceptionFilter {
  catch() {
    return EMPTY;
  }
}
@Catch(MyError)
class Renames implements ExceptionFilter {
  catch() {
    return throwError(() => new BadRequestException('renamed'));
  }
}

@Controller()
class Fails {
  @EventPattern<string>('handler')
  handler(): never {
    throw new MyError('in the handler');
  }
  @EventPattern<string>('other.rpc')
  otherRpc(): never {
    throw new OtherRpcException('of another copy');
  }
  @EventPattern<string>('other.http')
  otherHttp(): never {
    throw new OtherHttpException('of another copy');
  }
  @EventPattern<string>('similar')
  similar(): never {
    throw new SimilarError('similar');
  }
  @UsePipes(pipe)
  @EventPattern<string>('pipe')
  pipe(@Payload() _data: unknown): void {}
  @UseGuards(guard(() => false))
  @EventPattern<string>('guard.false')
  guardFalse(): void {}
  @UseGuards(
    guard(() => {
      throw new UnauthorizedException('who are you');
    }),
  )
  @EventPattern<string>('guard.401')
  guard401(): void {}
  @UseGuards(guard(fail('in the guard')))
  @EventPattern<string>('guard.error')
  guardError(): void {}
  @UseInterceptors(before)
  @EventPattern<string>('interceptor.before')
  interceptorBefore(): void {}
  @UseInterceptors(after)
  @EventPattern<string>('interceptor.after')
  interceptorAfter(): string {
    return 'done';
  }
  @UseFilters(Renames)
  @EventPattern<string>('filter.renames')
  renames(): never {
    throw new MyError('before the filter');
  }
  @UseFilters(Forgives)
  @EventPattern<string>('filter.forgives')
  forgives(): never {
    throw new MyError('forgive me');
  }
  @UseFilters(Swallows)
  @EventPattern<string>('filter.swallows')
  swallows(): never {
    throw new MyError('swallow me');
  }
  @UseFilters(Forgives)
  @MessagePattern('ask.forgiven')
  ask(): never {
    throw new MyError('forgive me');
  }
}

@Injectable({ scope: Scope.REQUEST })
class Unlucky {
  constructor() {
    throw new MyError('in the constructor');
  }
}

@Controller()
class RequestScoped {
  constructor(private readonly unlucky: Unlucky) {}
  @EventPattern<string>('constructor')
  created(): Unlucky {
    return this.unlucky;
  }
}

const expected: [pattern: string, reason: string, name: string, message: string][] = [
  ['handler', 'retries-exhausted', 'MyError', 'in the handler'],
  ['other.rpc', 'retries-exhausted', 'Error', 'of another copy'],
  ['other.http', 'invalid', 'Error', 'no stock'],
  ['similar', 'retries-exhausted', 'MyError', 'similar'],
  ['pipe', 'retries-exhausted', 'MyError', 'in the pipe'],
  ['guard.false', 'fatal', 'Error', 'Forbidden resource'],
  ['guard.401', 'fatal', 'UnauthorizedException', 'who are you'],
  ['guard.error', 'retries-exhausted', 'MyError', 'in the guard'],
  ['interceptor.before', 'retries-exhausted', 'MyError', 'before the handler'],
  ['interceptor.after', 'retries-exhausted', 'MyError', 'after the handler'],
  ['filter.renames', 'retries-exhausted', 'MyError', 'before the filter'],
];

const shapes = {
  worker: async (shop: Shop) => {
    const testing = await shop.compile([Fails, RequestScoped], { providers: [Unlucky] });
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    await app.listen();
    return app;
  },
  'hybrid that inherits': (shop: Shop) => startHybrid(shop, true),
  'hybrid that does not': (shop: Shop) => startHybrid(shop, false),
};

async function startHybrid(shop: Shop, inheritAppConfig: boolean) {
  const testing = await shop.compile([Fails, RequestScoped], { providers: [Unlucky] });
  const app = testing.createNestApplication({ logger: false });
  connectStork(app, { inheritAppConfig });
  await app.startAllMicroservices();
  await app.init();
  return app;
}

describe.each(Object.entries(shapes))('in a %s', (_, start) => {
  it.each(expected)(
    'an error at %s becomes a dead letter: %s, %s',
    async (pattern, reason, name, message) => {
      const shop = new Shop();
      const app = await start(shop);
      onTestFinished(() => app.close());
      await app.get(StorkClient).publish(pattern, {});
      const [deadLetter] = await shop.deadLetters(1);
      expect(deadLetter).toMatchObject({
        'stork-death-reason': reason,
        'stork-error-name': name,
        'stork-error-message': message,
      });
    },
  );

  it('an error of a request-scoped constructor becomes a dead letter with its original message', async () => {
    const shop = new Shop();
    const app = await start(shop);
    onTestFinished(() => app.close());
    await app.get(StorkClient).publish('constructor', {});
    const [deadLetter] = await shop.deadLetters(1);
    expect(deadLetter).toMatchObject({
      'stork-death-reason': 'retries-exhausted',
      'stork-error-message': 'in the constructor',
      'stork-handler': 'RequestScoped.created',
    });
  });

  it('an exception filter can turn failure into success, with a value or with nothing', async () => {
    const shop = new Shop();
    const app = await start(shop);
    onTestFinished(() => app.close());
    const client = app.get(StorkClient);
    await client.publish('filter.forgives', {});
    await client.publish('filter.swallows', {});
    expect(await client.request('ask.forgiven', {})).toBe('forgiven');
    await shop.settled();
    expect(shop.broker.queue(`${shop.queue}.dlq`)!.ready).toBe(0);
    expect(app.get(StorkService).state()['main']!.counts.handled).toBe(3);
  });
});

it('survives errors whose properties cannot be read', async () => {
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  const resisting: unknown[] = [
    new BadRequestException({ message: [Object.create(null)] }),
    Object.assign(new BadRequestException('x'), { getResponse: fail('no response for you') }),
    new Proxy(new Error('proxied'), { get: fail('nothing for you') }),
    new Proxy(new Error('classless'), { getPrototypeOf: fail('no class for you') }),
    new Proxy({}, { getPrototypeOf: fail('no class for you') }),
    revoked.proxy,
  ];
  @Controller()
  class Resists {
    @EventPattern<string>('resist')
    resist(@Payload() which: number): never {
      throw resisting[which];
    }
  }
  const shop = new Shop();
  const app = (await shop.compile([Resists])).createNestMicroservice({
    ...storkMicroservice(),
    logger: false,
  });
  onTestFinished(() => app.close());
  await app.listen();
  for (const which of resisting.keys()) await app.get(StorkClient).publish('resist', which);
  expect(await shop.deadLetters(resisting.length)).toHaveLength(resisting.length);
  await shop.settled();
});

it('dead-letters the message with the original error without connectStork', async () => {
  const shop = new Shop();
  const testing = await shop.compile([Fails]);
  const app = testing.createNestApplication({ logger: false });
  onTestFinished(() => app.close());
  app.connectMicroservice(storkMicroservice());
  await app.startAllMicroservices();
  await app.init();
  await app.get(StorkClient).publish('handler', {});
  expect(await shop.deadLetters(1)).toMatchObject([{ 'stork-error-message': 'in the handler' }]);
});
