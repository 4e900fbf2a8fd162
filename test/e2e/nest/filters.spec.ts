import {
  Catch,
  Controller,
  HttpException,
  Logger,
  NotFoundException,
  Scope,
  UnprocessableEntityException,
  UseFilters,
  UseGuards,
  ValidationPipe,
  type ArgumentsHost,
  type ExceptionFilter,
  type INestApplicationContext,
} from '@nestjs/common';
import { ContextIdFactory, HttpAdapterHost } from '@nestjs/core';
import {
  BaseRpcExceptionFilter,
  EventPattern,
  MessagePattern,
  Payload,
  RpcException,
} from '@nestjs/microservices';
import { IsInt, Min } from 'class-validator';
import { of, throwError, type Observable } from 'rxjs';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { connectStork, RemoteError, Retry, StorkClient, storkMicroservice } from 'nestjs-stork';
import { LogLines, Shop } from '../support.js';

afterEach(() => Logger.overrideLogger(true));

class Order {
  @IsInt()
  @Min(1)
  quantity!: number;
}

/** The filter of Nest's documentation. */
@Catch(RpcException)
class Documented implements ExceptionFilter {
  catch(exception: RpcException): Observable<never> {
    return throwError(() => exception.getError());
  }
}

/** An error tracker: it reports, and leaves the rest to Nest. */
@Catch()
class Tracker extends BaseRpcExceptionFilter {
  readonly reported: unknown[] = [];
  override catch(exception: RpcException, host: ArgumentsHost) {
    this.reported.push(exception);
    // oxlint-disable-next-line promise/valid-params -- an exception filter, not a promise
    return super.catch(exception, host);
  }
}

@Catch(HttpException)
class ReturnsError implements ExceptionFilter {
  catch(exception: HttpException): RpcException {
    return new RpcException(exception.getResponse());
  }
}

@Catch()
class OfHttp implements ExceptionFilter {
  constructor(private readonly host: HttpAdapterHost) {}
  catch(_: unknown, host: ArgumentsHost): void {
    this.host.httpAdapter.reply(host.switchToHttp().getResponse(), {}, 500);
  }
}

type Shape = 'worker' | 'hybrid';
type Setup = (app: {
  useGlobalFilters(...filters: ExceptionFilter[]): unknown;
  useGlobalPipes(...pipes: ValidationPipe[]): unknown;
  get: INestApplicationContext['get'];
}) => void;

async function start(shape: Shape, controllers: (new () => object)[], setUp: Setup = () => {}) {
  const shop = new Shop();
  const logs = new LogLines();
  const testing = await shop.compile(controllers);
  const app =
    shape === 'hybrid'
      ? testing.createNestApplication({ logger: logs })
      : testing.createNestMicroservice({ ...storkMicroservice(), logger: logs });
  onTestFinished(() => app.close());
  setUp(app);
  if ('startAllMicroservices' in app) {
    connectStork(app, { inheritAppConfig: true });
    await app.startAllMicroservices();
    await app.init();
  } else {
    await app.listen();
  }
  const client = app.get(StorkClient);
  const refusal = (pattern: string, data: unknown = {}) =>
    client.request(pattern, data).then(
      (value: unknown) => ({ resolved: value }),
      (error: unknown) => error as RemoteError,
    );
  return { shop, client, refusal, logs };
}

describe.each(['worker', 'hybrid'] as const)('in a %s', (shape) => {
  it.each([
    ['a status', { statusCode: 404, message: 'none', hint: 'x' }, 'HANDLER_FAILED', 404],
    ['a number', { code: 404, message: 'none', hint: 'x' }, 'HANDLER_FAILED', 404],
    ['a text', { code: 'NO_USER', status: 404, message: 'none', hint: 'x' }, 'NO_USER', 404],
  ])('the object of an RpcException with %s travels whole', async (_, content, code, status) => {
    @Controller()
    class Users {
      @MessagePattern('user')
      user(): never {
        throw new RpcException(content);
      }
    }
    const { refusal } = await start(shape, [Users]);
    expect(await refusal('user')).toMatchObject({
      code,
      status,
      message: 'none',
      details: content,
      retryable: false,
    });
  });

  it('an RpcException keeps all fields of its object that can be written', async () => {
    const cycle: Record<string, unknown> = { code: 'CYCLE', message: 'round' };
    for (let n = 0; n < 8; n++) cycle[`self${n}`] = cycle;
    const throwing = {
      code: 'GETTER',
      message: 'open',
      get field(): never {
        throw new Error('no');
      },
    };
    const map = { code: 'MAP', message: 'map', fields: new Map([['a', 1n]]) };
    const contents = [cycle, throwing, map];
    @Controller()
    class Users {
      @MessagePattern('user')
      user(@Payload() which: number): never {
        throw new RpcException(contents[which]!);
      }
    }
    const { refusal } = await start(shape, [Users]);
    const refusals = await Promise.all(contents.map((_, which) => refusal('user', which)));
    expect(refusals).toMatchObject([
      { code: 'CYCLE', message: 'round', details: { code: 'CYCLE', message: 'round' } },
      { code: 'GETTER', message: 'open', details: { code: 'GETTER', message: 'open' } },
      { code: 'MAP', message: 'map', details: { fields: { a: '1' } } },
    ]);
  });

  it("an HttpException has its status and its response; another error's code and fields stay here", async () => {
    @Controller()
    class Users {
      @MessagePattern('http')
      http(): never {
        throw new NotFoundException({ message: 'none', hint: 'x' });
      }
      @MessagePattern('other')
      @Retry({ maxRetries: 0 })
      other(): never {
        throw Object.assign(new TypeError('no such table'), { code: 'ER_42', details: { sql: 'x' } });
      }
    }
    const { refusal } = await start(shape, [Users]);
    const details = { message: 'none', hint: 'x' };
    expect(await refusal('http')).toMatchObject({ status: 404, message: 'none', details, retryable: false });
    const other = (await refusal('other')) as RemoteError;
    expect([other.code, other.remoteName, other.message, other.details, other.status]).toEqual([
      'HANDLER_FAILED',
      'TypeError',
      'no such table',
      undefined,
      undefined,
    ]);
  });

  it.each([
    ['the one of the documentation', () => new Documented()],
    ['an error tracker that extends the one of Nest', () => new Tracker()],
  ])('a filter leaves a deliberate answer final: %s', async (_, newFilter) => {
    let runs = 0;
    @Controller()
    class Orders {
      @MessagePattern('buy')
      @Retry({ maxRetries: 3, delayMs: 1 })
      buy(): never {
        runs++;
        throw new RpcException('sold out');
      }
      @Retry({ maxRetries: 3, delayMs: 1 })
      @UseGuards({ canActivate: () => false })
      @EventPattern<string>('guarded')
      guarded(): void {}
    }
    const { refusal, client, shop } = await start(shape, [Orders], (app) =>
      app.useGlobalFilters(newFilter()),
    );
    expect(await refusal('buy')).toMatchObject({ message: 'sold out', retryable: false });
    expect(runs).toBe(1);
    await client.publish('guarded', {});
    expect(await shop.deadLetters(1)).toMatchObject([
      { 'stork-death-reason': 'fatal', 'stork-attempt': '1' },
    ]);
  });

  it('an error that a filter returns, or emits, is no success', async () => {
    @Catch(HttpException)
    class EmitsError implements ExceptionFilter {
      catch(exception: HttpException): Observable<unknown> {
        return of(new RpcException(exception.getResponse()));
      }
    }
    @Controller()
    class Orders {
      @MessagePattern('buy')
      buy(@Payload() order: Order): Order {
        return order;
      }
      @EventPattern<string>('bought')
      bought(@Payload() _order: Order): void {}
      @UseFilters(EmitsError)
      @MessagePattern('emits')
      emits(): never {
        throw new UnprocessableEntityException('no stock');
      }
    }
    const { refusal, client, shop } = await start(shape, [Orders], (app) => {
      app.useGlobalFilters(new ReturnsError());
      app.useGlobalPipes(new ValidationPipe());
    });
    const refused = await refusal('buy', { quantity: -1 });
    expect(refused).toBeInstanceOf(RemoteError);
    expect(JSON.stringify((refused as RemoteError).details)).toContain('quantity must not be less than 1');
    expect(await refusal('emits')).toBeInstanceOf(RemoteError);
    await client.publish('bought', { quantity: -1 });
    const [deadLetter] = await shop.deadLetters(1);
    expect(deadLetter).toMatchObject({
      'stork-death-reason': 'invalid',
      'stork-error-name': 'BadRequestException',
      'stork-error-message': 'quantity must not be less than 1',
    });
  });

  it.each([
    ['the errors', (errors: object[]) => new RpcException(errors)],
    ['an object', (errors: object[]) => new RpcException({ code: 'INVALID', errors })],
    ['text', () => new RpcException('quantity is wrong')],
    ['a 422', () => new UnprocessableEntityException('quantity is wrong')],
  ])('validation by an exceptionFactory is invalid and names the field: %s', async (_, exceptionFactory) => {
    @Controller()
    class Orders {
      @MessagePattern('buy')
      buy(@Payload() order: Order): Order {
        return order;
      }
      @Retry({ maxRetries: 3, delayMs: 1 })
      @EventPattern<string>('bought')
      bought(@Payload() _order: Order): void {}
    }
    const { refusal, client, shop } = await start(shape, [Orders], (app) =>
      app.useGlobalPipes(new ValidationPipe({ exceptionFactory })),
    );
    const { message, details } = (await refusal('buy', { quantity: -1 })) as RemoteError;
    expect(JSON.stringify([message, details])).toContain('quantity');
    await client.publish('bought', { quantity: -1 });
    const [deadLetter] = await shop.deadLetters(1);
    expect(deadLetter).toMatchObject({ 'stork-death-reason': 'invalid', 'stork-attempt': '1' });
    expect(JSON.stringify(deadLetter)).toContain('quantity');
  });

  it('a filter that fails hides no error, and its own is recorded beside it', async () => {
    @Catch()
    class Fails implements ExceptionFilter {
      catch(): never {
        throw new TypeError('response.status is not a function');
      }
    }
    @Controller()
    class Orders {
      @EventPattern<string>('bought')
      @Retry({ maxRetries: 3, delayMs: 1 })
      bought(@Payload() _order: Order): void {}
      @EventPattern<string>('down')
      @Retry({ maxRetries: 3, delayMs: 1, failOn: [TypeError] })
      down(): never {
        throw new Error('db down');
      }
    }
    const { client, shop } = await start(shape, [Orders], (app) => {
      app.useGlobalFilters(shape === 'hybrid' ? new OfHttp(app.get(HttpAdapterHost)) : new Fails());
      app.useGlobalPipes(new ValidationPipe());
    });
    await client.publish('bought', { quantity: -1 });
    await client.publish('down', {});
    const deadLetters = await shop.deadLetters(2);
    const of_ = (handler: string) => deadLetters.find((one) => one['stork-handler'] === handler);
    expect(of_('Orders.bought')).toMatchObject({ 'stork-death-reason': 'invalid', 'stork-attempt': '1' });
    expect(of_('Orders.down')).toMatchObject({
      // By `failOn`, which names the class of the filter's error.
      'stork-death-reason': 'fatal',
      'stork-error-message': 'db down',
    });
    expect(of_('Orders.down')?.['stork-filter-error']).toMatch(/^TypeError: .*not a function/);
  });

  it.each([
    ['nothing', () => undefined],
    ['null', () => null],
    ['a promise of nothing', async () => Promise.resolve(undefined)],
    ['a promise of null', async () => Promise.resolve(null)],
    ['a promise of an Observable that fails', async () => Promise.resolve(throwError(() => 'filtered'))],
    ['a promise that rejects', async () => Promise.reject(new RangeError('in the filter'))],
  ])('a filter that returns %s leaves the error as it is', async (_, result) => {
    @Catch()
    class Odd implements ExceptionFilter {
      catch(): unknown {
        return result();
      }
    }
    @Controller()
    class Orders {
      @EventPattern<string>('down')
      down(): never {
        throw new Error('db down');
      }
    }
    const { client, shop } = await start(shape, [Orders], (app) => app.useGlobalFilters(new Odd()));
    await client.publish('down', {});
    await shop.settled();
    expect((await shop.deadLetters(1))[0]).toMatchObject({ 'stork-error-message': 'db down' });
  });

  it.each([
    ['a constructor', 'constructor', 'no tenant'],
    ['the ContextIdStrategy', 'strategy', 'no context'],
  ])('what %s of a request scope throws passes the filters, and is the error', async (_, where, message) => {
    @Controller({ scope: Scope.REQUEST })
    class Orders {
      constructor() {
        if (where === 'constructor') throw new RangeError(message);
      }
      @EventPattern<string>('created')
      created(): void {}
      @MessagePattern('quote')
      quote(): void {}
    }
    if (where === 'strategy') {
      const attach = (): never => {
        throw new RangeError(message);
      };
      ContextIdFactory.apply({ attach });
      onTestFinished(() => ContextIdFactory.apply(undefined as never));
    }
    const { client, shop, refusal } = await start(shape, [Orders], (app) =>
      app.useGlobalFilters(new OfHttp({ httpAdapter: {} } as HttpAdapterHost)),
    );
    await client.publish('created', {});
    const [deadLetter] = await shop.deadLetters(1);
    expect(deadLetter).toMatchObject({
      'stork-death-reason': 'retries-exhausted',
      'stork-error-name': 'RangeError',
      'stork-error-message': message,
    });
    expect(await refusal('quote')).toMatchObject({ code: 'HANDLER_FAILED', retryable: true });
  });

  it("Nest's own ERROR does not come on top of the transport's line", async () => {
    @Controller()
    class Orders {
      @EventPattern<string>('down')
      down(): never {
        throw new Error('db down');
      }
    }
    const { client, shop, logs } = await start(shape, [Orders], (app) => app.useGlobalFilters(new Tracker()));
    await client.publish('down', {});
    await shop.deadLetters(1);
    expect(logs.containing('db down')).toHaveLength(1);
  });
});
