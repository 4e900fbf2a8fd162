import {
  Catch,
  Controller,
  Injectable,
  Scope,
  ValidationPipe,
  type ArgumentsHost,
  type CanActivate,
  type ExceptionFilter,
  type ExecutionContext,
  type INestApplication,
  type INestMicroservice,
  type NestInterceptor,
  type OnApplicationBootstrap,
  type OnModuleInit,
  type PipeTransform,
  type Provider,
  type Type,
} from '@nestjs/common';
import { APP_FILTER, APP_GUARD, APP_INTERCEPTOR, APP_PIPE, HttpAdapterHost } from '@nestjs/core';
import { EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { IsInt, Min } from 'class-validator';
import { throwError } from 'rxjs';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  connectStork,
  CorrelationInterceptor,
  DeadLetterInterceptor,
  IdempotencyInterceptor,
  RetryInterceptor,
  StorkClient,
  StorkConfigError,
  StorkModule,
  type ConnectStorkOptions,
} from 'nestjs-stork';
import { Seen } from '../../contract/app.js';
import { LogLines, Shop } from '../support.js';

const notInherited = 'message handlers do not get these global enhancers';
const inherited = 'message handlers get these global enhancers';

class Order {
  @IsInt()
  @Min(1)
  quantity!: number;
}

interface Hybrid extends ConnectStorkOptions {
  readonly controllers?: readonly Type[];
  readonly providers?: readonly Provider[];
  readonly handlers?: 'all' | 'none';
  readonly before?: (app: INestApplication) => void;
  readonly after?: (app: INestApplication, microservice: INestMicroservice) => void;
}

/** An HTTP application with the transport `main`, before its start. */
async function connect(given: Hybrid = {}) {
  const { controllers = [], providers = [], handlers = 'all', before, after, ...options } = given;
  const shop = new Shop();
  const warnings: string[] = [];
  const transports = { main: shop.transport({ handlers }) };
  const testing = await Test.createTestingModule({
    imports: [StorkModule.forRoot({ transports, retry: { maxRetries: 3, delayMs: 1 } })],
    controllers: [...controllers],
    providers: [...providers],
  }).compile();
  const warn = (line: unknown): void => void warnings.push(String(line));
  const app = testing.createNestApplication({ logger: { ...new LogLines(), warn } });
  onTestFinished(() => app.close());
  before?.(app);
  const microservice = connectStork(app, options);
  after?.(app, microservice);
  const advice = (): readonly string[] => warnings.filter((line) => line.startsWith('message handlers '));
  return { app, microservice, shop, warnings, advice, client: app.get(StorkClient) };
}

async function start(given: Hybrid = {}) {
  const connected = await connect(given);
  await connected.app.startAllMicroservices();
  await connected.app.listen(0, '127.0.0.1');
  return connected;
}

const nothing = () => {};

@Controller()
class Ignores {
  @EventPattern<string>('event')
  event(): void {}
}

describe('a guard for HTTP that is bound by APP_GUARD', () => {
  class Throttle implements CanActivate {
    canActivate(context: ExecutionContext): boolean {
      context
        .switchToHttp()
        .getResponse<{ setHeader(name: string, value: string): void }>()
        .setHeader('x', '1');
      return true;
    }
  }
  const providers = [{ provide: APP_GUARD, useClass: Throttle }];

  it('stops no message, and the start says that handlers do not get it', async () => {
    const seen = new Seen<number>();
    @Controller()
    class Shopping {
      @EventPattern<string>('bought')
      bought(@Payload() { n }: { n: number }): void {
        seen.add(n);
      }
    }
    const { client, advice } = await start({ controllers: [Shopping], providers });
    for (let n = 0; n < 10; n++) await client.publish('bought', { n });
    expect(await seen.count(10)).toHaveLength(10);
    expect(advice()).toEqual([
      `${notInherited} of the application: guards Throttle; connectStork(app, { inheritAppConfig: true }) applies all of them, ` +
        'useGlobalGuards() on the microservice that connectStork() returns applies some',
    ]);
  });

  it('is named at the start where it is inherited, with the check that it needs', async () => {
    const { client, shop, advice } = await start({
      controllers: [Ignores],
      providers,
      inheritAppConfig: true,
    });
    await client.publish('event', {});
    expect(await shop.deadLetters(1)).toMatchObject([{ 'stork-death-reason': 'retries-exhausted' }]);
    expect(advice()).toHaveLength(1);
    expect(advice()[0]).toContain(`${inherited} of the application too: guards Throttle;`);
    expect(advice()[0]).toContain("must check context.getType() === 'http'");
  });
});

describe('a filter for HTTP that catches all', () => {
  @Catch()
  class AllExceptions implements ExceptionFilter {
    constructor(private readonly host: HttpAdapterHost) {}
    catch(_: unknown, host: ArgumentsHost): void {
      this.host.httpAdapter.reply(host.switchToHttp().getResponse(), {}, 500);
    }
  }
  const orders = new Seen<Order>();
  @Controller()
  class Shopping {
    @EventPattern<string>('bought')
    bought(@Payload() order: Order): void {
      orders.add(order);
    }
    @EventPattern<string>('down')
    down(): void {
      throw new Error('db down');
    }
  }
  const before = (app: INestApplication): void => {
    app.useGlobalFilters(new AllExceptions(app.get(HttpAdapterHost)));
    app.useGlobalPipes(new ValidationPipe());
  };

  it('does not see the errors of messages', async () => {
    const { client, shop, advice } = await start({ controllers: [Shopping], before });
    await client.publish('bought', { quantity: -1 });
    await client.publish('down', {});
    expect(await orders.count(1)).toEqual([{ quantity: -1 }]);
    expect(await shop.deadLetters(1)).toMatchObject([{ 'stork-error-message': 'db down' }]);
    expect(advice()).toHaveLength(1);
    expect(advice()[0]).toContain('pipes ValidationPipe, filters AllExceptions');
    expect(advice()[0]).toContain('useGlobalPipes() and useGlobalFilters() on the microservice');
  });

  it('hides no error where it is inherited', async () => {
    const { client, shop, advice } = await start({
      controllers: [Shopping],
      before,
      inheritAppConfig: true,
    });
    await client.publish('down', {});
    await client.publish('bought', { quantity: -1 });
    const deadLetters = await shop.deadLetters(2);
    const of = (handler: string) => deadLetters.find((letter) => letter['stork-handler'] === handler);
    expect(of('Shopping.down')).toMatchObject({
      'stork-death-reason': 'retries-exhausted',
      'stork-error-message': 'db down',
    });
    expect(of('Shopping.bought')).toMatchObject({ 'stork-death-reason': 'invalid', 'stork-attempt': '1' });
    expect(advice()).toHaveLength(1);
    expect(advice()[0]).toContain('too: filters AllExceptions;');
  });
});

class Pipe implements PipeTransform {
  transform(value: unknown): unknown {
    return value;
  }
}
class Guard implements CanActivate {
  canActivate(): boolean {
    return true;
  }
}
@Catch()
class Filter implements ExceptionFilter {
  catch(error: unknown) {
    return throwError(() => error);
  }
}
class Interceptor implements NestInterceptor {
  intercept: NestInterceptor['intercept'] = (_, next) => next.handle();
}

describe('the warning of the start', () => {
  const byCall = (
    app: Pick<INestApplication, `useGlobal${'Pipes' | 'Guards' | 'Filters' | 'Interceptors'}`>,
  ) =>
    app
      .useGlobalPipes(new Pipe())
      .useGlobalGuards(new Guard())
      .useGlobalFilters(new Filter())
      .useGlobalInterceptors(new Interceptor());
  const byToken = (scope: Scope): Provider[] => [
    { provide: APP_PIPE, useClass: Pipe, scope },
    { provide: APP_GUARD, useClass: Guard, scope },
    { provide: APP_FILTER, useClass: Filter, scope },
    { provide: APP_INTERCEPTOR, useClass: Interceptor, scope },
  ];
  const all = 'pipes Pipe, guards Guard, filters Filter, interceptors Interceptor;';

  it.each<[string, Hybrid]>([
    ['useGlobal…()', { before: byCall }],
    ['useGlobal…() after connectStork()', { after: (app) => byCall(app) }],
    ['APP_… tokens', { providers: byToken(Scope.DEFAULT) }],
    ['APP_… tokens in request scope', { providers: byToken(Scope.REQUEST) }],
  ])('names what is not inherited, by %s', async (_, given) => {
    const { advice } = await start({ controllers: [Ignores], ...given });
    expect(advice()).toHaveLength(1);
    expect(advice()[0]).toContain(`${notInherited} of the application: ${all}`);
  });

  it('names an enhancer once, one without a class too, and neither undefined nor null', async () => {
    const { advice } = await start({
      controllers: [Ignores],
      providers: [{ provide: APP_GUARD, useFactory: () => new Guard(), scope: Scope.REQUEST }],
      before: (app) => {
        app.useGlobalPipes(new Pipe(), new Pipe(), ...([undefined, null] as unknown as Pipe[]));
        const guard: CanActivate = { canActivate: () => true };
        app.useGlobalGuards(guard, Object.assign(Object.create(null), guard));
      },
    });
    expect(advice()[0]).toContain('pipes Pipe, guards (without a class);');
  });

  it('does not name what the microservice has too', async () => {
    const { advice } = await start({
      controllers: [Ignores],
      before: byCall,
      after: (_, microservice) => microservice.useGlobalPipes(new Pipe()).useGlobalGuards(new Guard()),
    });
    expect(advice()[0]).toContain('of the application: filters Filter, interceptors Interceptor;');
  });

  it('comes once, in either order of the start', async () => {
    const { app, advice } = await connect({ controllers: [Ignores], before: byCall });
    await app.init();
    expect(advice()).toEqual([]);
    await app.startAllMicroservices();
    expect(advice()).toHaveLength(1);
  });

  const pipe = (app: INestApplication) => app.useGlobalPipes(new Pipe());
  const policies = (app: INestApplication) =>
    app.useGlobalInterceptors(
      new RetryInterceptor(),
      new DeadLetterInterceptor(),
      new IdempotencyInterceptor(),
      new CorrelationInterceptor(),
    );
  it.each<[string, Hybrid]>([
    ['without global enhancers', { controllers: [Ignores] }],
    ['without global enhancers to inherit', { controllers: [Ignores], inheritAppConfig: true }],
    ['without handlers', { before: byCall }],
    ['without handlers on a transport', { controllers: [Ignores], before: byCall, handlers: 'none' }],
    ['with policies and correlation alone', { controllers: [Ignores], before: policies }],
    ['that inherits those', { controllers: [Ignores], before: policies, inheritAppConfig: true }],
    ['that inherits pipes alone', { controllers: [Ignores], before: pipe, inheritAppConfig: true }],
  ])('is absent in an application %s', async (_, given) => {
    expect((await start(given)).advice()).toEqual([]);
  });
});

describe('useGlobal…()', () => {
  const spies = (called: Seen<string>) => {
    const pipe: PipeTransform = {
      transform: (value: unknown) => {
        called.add('pipe');
        return value;
      },
    };
    const guard: CanActivate = {
      canActivate: () => {
        called.add('guard');
        return true;
      },
    };
    const interceptor: NestInterceptor = {
      intercept: (_, next) => {
        called.add('interceptor');
        return next.handle();
      },
    };
    @Catch()
    class Spy implements ExceptionFilter {
      catch(error: unknown) {
        called.add('filter');
        return throwError(() => error);
      }
    }
    return (app: INestApplication | INestMicroservice): void => {
      app.useGlobalPipes(pipe);
      app.useGlobalGuards(guard);
      app.useGlobalInterceptors(interceptor);
      app.useGlobalFilters(new Spy());
    };
  };
  @Controller()
  class Fails {
    @MessagePattern('fail')
    fail(@Payload() _data: unknown): never {
      throw new Error('as planned');
    }
  }
  const everything = ['guard', 'interceptor', 'pipe', 'filter'];

  it.each<[string, boolean, (use: ReturnType<typeof spies>) => Pick<Hybrid, 'before' | 'after'>, string[]]>([
    ['the microservice', false, (use) => ({ after: (_, own) => use(own) }), everything],
    ['the microservice that inherits', true, (use) => ({ after: (_, own) => use(own) }), everything],
    ['the application before connectStork()', true, (use) => ({ before: use }), everything],
    ['the application after connectStork()', true, (use) => ({ after: use }), everything],
    ['the application that is not inherited', false, (use) => ({ before: use }), []],
    ['the application after connectStork(), not inherited', false, (use) => ({ after: use }), []],
  ])('on %s applies to handlers as inheritAppConfig says', async (_, inheritAppConfig, at, expected) => {
    const called = new Seen<string>();
    const { client, warnings } = await start({
      controllers: [Fails],
      inheritAppConfig,
      ...at(spies(called)),
    });
    await expect(client.request('fail', {})).rejects.toThrow('as planned');
    expect(called.all).toEqual(expected);
    expect(warnings.filter((line) => line.includes('initialization'))).toEqual([]);
  });

  it('on the microservice applies where it is started alone', async () => {
    const called = new Seen<string>();
    const { app, client, microservice } = await connect({ controllers: [Fails] });
    spies(called)(microservice);
    await app.init();
    expect(await microservice.init()).toBe(microservice);
    await microservice.listen();
    await expect(client.request('fail', {})).rejects.toThrow('as planned');
    expect(called.all).toEqual(everything);
  });

  it.each<[string, (app: INestApplication) => unknown, string]>([
    ['an inherited guard', (app) => app.useGlobalGuards(new Guard()), 'guards Guard:'],
    ['an inherited filter', (app) => app.useGlobalFilters(new Filter()), 'filters Filter:'],
  ])('refuses %s that is too late for the handlers', async (_, use, named) => {
    const { app } = await connect({ controllers: [Ignores], inheritAppConfig: true });
    await app.startAllMicroservices();
    use(app);
    const error = await app.init().then(nothing, (reason: unknown) => reason as Error);
    expect(error).toBeInstanceOf(StorkConfigError);
    expect(error!.message).toContain(`${named} registered after app.startAllMicroservices()`);
  });

  it('takes a guard for HTTP alone after the microservices were started', async () => {
    const { app, advice } = await connect({ controllers: [Ignores] });
    await app.startAllMicroservices();
    app.useGlobalGuards(new Guard());
    await app.init();
    expect(advice()[0]).toContain('guards Guard;');
  });

  it('refuses a policy that is too late for the handlers', async () => {
    const { app } = await connect({ controllers: [Ignores] });
    await app.startAllMicroservices();
    app.useGlobalInterceptors(new RetryInterceptor({ maxRetries: 1 }));
    await expect(app.init()).rejects.toThrow('interceptors RetryInterceptor: registered after');
  });
});

describe('a global policy', () => {
  const retry = () => new RetryInterceptor({ maxRetries: 1, delayMs: 1 });
  it.each<[string, Hybrid]>([
    ['of the application', { before: (app) => app.useGlobalInterceptors(retry()) }],
    ['of the application, after connectStork()', { after: (app) => app.useGlobalInterceptors(retry()) }],
    [
      'of the application, inherited',
      { before: (app) => app.useGlobalInterceptors(retry()), inheritAppConfig: true },
    ],
    ['of APP_INTERCEPTOR', { providers: [{ provide: APP_INTERCEPTOR, useFactory: retry }] }],
    ['of the microservice', { after: (_, own) => own.useGlobalInterceptors(retry()) }],
    [
      'of the microservice, over the application',
      {
        before: (app) => app.useGlobalInterceptors(new RetryInterceptor({ maxRetries: 7 })),
        after: (_, own) => own.useGlobalInterceptors(retry()),
      },
    ],
  ])('%s holds for message handlers', async (_, given) => {
    const attempts = new Seen<string>();
    @Controller()
    class Fails {
      @EventPattern<string>('fail')
      fail(): never {
        attempts.add('attempt');
        throw new Error('as planned');
      }
    }
    const { client, shop } = await start({ ...given, controllers: [Fails] });
    await client.publish('fail', {});
    await shop.deadLetters(1);
    expect(attempts.all).toHaveLength(2);
  });
});

it('calls the hooks of the application once', async () => {
  const calls: string[] = [];
  @Injectable()
  class Hooked implements OnModuleInit, OnApplicationBootstrap {
    onModuleInit(): void {
      calls.push('init');
    }
    onApplicationBootstrap(): void {
      calls.push('bootstrap');
    }
  }
  await start({ controllers: [Ignores], providers: [Hooked] });
  expect(calls).toEqual(['init', 'bootstrap']);
});
