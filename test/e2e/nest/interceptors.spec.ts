import 'reflect-metadata';
import {
  Controller,
  Inject,
  Injectable,
  Module,
  Scope,
  UseInterceptors,
  type ModuleMetadata,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import { APP_INTERCEPTOR, REQUEST } from '@nestjs/core';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { describe, expect, it, onTestFinished } from 'vitest';
import {
  connectStork,
  CorrelationInterceptor,
  DeadLetterInterceptor,
  getClientToken,
  IdempotencyInterceptor,
  Retry,
  RetryInterceptor,
  storkMicroservice,
  type StorkClient,
  type StorkContext,
  type StorkModuleOptions,
} from 'nestjs-stork';
import { currentCorrelation } from '../../../lib/core/publish/correlation-context.js';
import { Shop } from '../support.js';

type Interceptors = Parameters<typeof UseInterceptors>;

/** Where an application binds its interceptors. */
interface Binding {
  readonly onClass?: Interceptors;
  readonly onMethods?: Interceptors;
  readonly globals?: readonly NestInterceptor[];
  readonly metadata?: ModuleMetadata;
  /** Applied to the method that fails. */
  readonly decorators?: readonly MethodDecorator[];
}

type Kind = 'worker' | 'hybrid' | 'hybrid that inherits';

/** What the handlers of one application have seen. */
class Observed {
  failed = 0;
  asked = 0;
  readonly once: number[] = [];
  readonly correlations: (string | undefined)[] = [];
}

function newOrders({ onClass, onMethods, decorators = [] }: Binding, observed: Observed): Type {
  @Controller()
  class Orders {
    @EventPattern<string>('fails')
    fails(): void {
      observed.failed++;
      throw new Error('card 4111 is refused');
    }
    @MessagePattern<string>('asks')
    asks(): void {
      observed.asked++;
      throw new Error('card 4111 is refused');
    }
    @EventPattern<string>('once')
    once(@Payload() n: number): void {
      observed.once.push(n);
    }
    @EventPattern<string>('talks')
    async talks(@Ctx() context: StorkContext): Promise<void> {
      await Promise.resolve();
      observed.correlations.push(context.correlationId, currentCorrelation()?.correlationId);
    }
  }
  if (onClass !== undefined) UseInterceptors(...onClass)(Orders);
  for (const name of ['fails', 'asks', 'once', 'talks'] as const) {
    const descriptor = Object.getOwnPropertyDescriptor(Orders.prototype, name)!;
    if (onMethods !== undefined) UseInterceptors(...onMethods)(Orders.prototype, name, descriptor);
    if (name === 'fails') for (const decorate of decorators) decorate(Orders.prototype, name, descriptor);
  }
  return Orders;
}

async function start(kind: Kind, binding: Binding, options: Partial<StorkModuleOptions> = {}) {
  const shop = new Shop();
  onTestFinished(() => shop.broker.close());
  const observed = new Observed();
  const testing = await Test.createTestingModule({
    ...binding.metadata,
    imports: [shop.stork(options), ...(binding.metadata?.imports ?? [])],
    controllers: [newOrders(binding, observed)],
  }).compile();
  if (kind === 'worker') {
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    onTestFinished(() => app.close());
    app.useGlobalInterceptors(...(binding.globals ?? []));
    await app.listen();
  } else {
    const app = testing.createNestApplication({ logger: false });
    onTestFinished(() => app.close());
    app.useGlobalInterceptors(...(binding.globals ?? []));
    connectStork(app, { inheritAppConfig: kind === 'hybrid that inherits' });
    await app.startAllMicroservices();
    await app.init();
  }
  const send = async (type: string, messageId?: string, headers: Record<string, string> = {}) => {
    const properties = { type, ...(messageId === undefined ? {} : { messageId }) };
    shop.broker.publish('', shop.queue, { body: Buffer.from('1'), headers, properties });
    await shop.settled();
  };
  const ask = () => testing.get<StorkClient>(getClientToken('main'), { strict: false }).request('asks', 1);
  return { shop, observed, send, ask };
}

const retry = { maxRetries: 2, delayMs: 1, jitter: 'none' } as const;
const deadLetter = { redact: (text: string) => text.replaceAll(/\d/g, '*') };
const correlation = { header: 'X-Trace' };

const instances = () =>
  [
    new RetryInterceptor(retry),
    new IdempotencyInterceptor(),
    new DeadLetterInterceptor(deadLetter),
    new CorrelationInterceptor(correlation),
  ] as const;

class OwnRetry extends RetryInterceptor {
  constructor() {
    super(retry);
  }
}
class OwnIdempotency extends IdempotencyInterceptor {}
class OwnDeadLetter extends DeadLetterInterceptor {
  override readonly options = deadLetter;
}
class OwnCorrelation extends CorrelationInterceptor {
  constructor(options = correlation) {
    super(options);
  }
}
const subclasses = [OwnRetry, OwnIdempotency, OwnDeadLetter, OwnCorrelation] as const;

/** Stands for the configuration of an application. */
@Injectable()
class Settings {
  readonly retry = retry;
  readonly deadLetter = deadLetter;
  readonly correlation = correlation;
}
@Injectable()
class InjectedRetry extends RetryInterceptor {
  constructor(settings: Settings) {
    super(settings.retry);
  }
}
@Injectable()
class InjectedIdempotency extends IdempotencyInterceptor {
  @Inject(Settings)
  readonly settings!: Settings;
}
@Injectable()
class InjectedDeadLetter extends DeadLetterInterceptor {
  constructor(@Inject(Settings) settings: Settings) {
    super(settings.deadLetter);
  }
}
@Injectable()
class InjectedCorrelation extends CorrelationInterceptor {
  constructor(settings: Settings) {
    super(settings.correlation);
  }
}
const injecting = [InjectedRetry, InjectedIdempotency, InjectedDeadLetter, InjectedCorrelation] as const;

const classes = [
  RetryInterceptor,
  IdempotencyInterceptor,
  DeadLetterInterceptor,
  CorrelationInterceptor,
] as const;
const factories = [
  Settings,
  {
    provide: RetryInterceptor,
    inject: [Settings],
    useFactory: (settings: Settings) => new RetryInterceptor(settings.retry),
  },
  { provide: IdempotencyInterceptor, useClass: OwnIdempotency },
  { provide: DeadLetterInterceptor, useFactory: async () => new DeadLetterInterceptor(deadLetter) },
  { provide: CorrelationInterceptor, useValue: new CorrelationInterceptor(correlation) },
];
@Module({ providers: factories, exports: [...classes] })
class PoliciesModule {}
@Module({ imports: [PoliciesModule], exports: [PoliciesModule] })
class SharedModule {}

const ways: readonly [string, Binding][] = [
  ['instances on methods', { onMethods: [...instances()] }],
  ['instances on a class', { onClass: [...instances()] }],
  ['subclasses on methods', { onMethods: [...subclasses] }],
  ['subclasses on a class', { onClass: [...subclasses] }],
  ['subclasses that inject, on methods', { onMethods: [...injecting], metadata: { providers: [Settings] } }],
  ['subclasses that inject, on a class', { onClass: [...injecting], metadata: { providers: [Settings] } }],
  ['classes with providers, on methods', { onMethods: [...classes], metadata: { providers: factories } }],
  [
    'classes with providers of an imported module, on a class',
    { onClass: [...classes], metadata: { imports: [SharedModule] } },
  ],
];
const globalWays: readonly [string, Binding][] = [
  ['instances', { globals: instances() }],
  [
    'APP_INTERCEPTOR with values',
    {
      metadata: { providers: instances().map((useValue) => ({ provide: APP_INTERCEPTOR, useValue })) },
    },
  ],
  [
    'APP_INTERCEPTOR with classes that inject',
    {
      metadata: {
        providers: [Settings, ...injecting.map((useClass) => ({ provide: APP_INTERCEPTOR, useClass }))],
      },
    },
  ],
  [
    'APP_INTERCEPTOR with factories and existing providers',
    {
      metadata: {
        providers: [
          ...factories,
          ...classes.map((useExisting) => ({ provide: APP_INTERCEPTOR, useExisting })),
          { provide: APP_INTERCEPTOR, useFactory: async () => new RetryInterceptor(retry) },
        ],
      },
    },
  ],
];
const kinds: readonly Kind[] = ['worker', 'hybrid', 'hybrid that inherits'];

/** Sends what shows each of the four policies. */
async function observeEvents({ shop, observed, send }: Awaited<ReturnType<typeof start>>) {
  await send('fails', 'm-1');
  const [letter] = await shop.deadLetters(1);
  await send('once', 'm-2');
  await send('once', 'm-2');
  await send('talks', 'm-3', { 'x-trace': 'talk-1' });
  const { failed, once, correlations } = observed;
  return { attempts: failed, handled: once.length, error: letter!['stork-error-message'], correlations };
}
const allPolicies = {
  attempts: 3,
  handled: 1,
  error: 'card **** is refused',
  correlations: ['talk-1', 'talk-1'],
};

describe.each(kinds)('in a %s', (kind) => {
  it.each(ways)('the four interceptors hold as %s, for requests too', async (_, binding) => {
    const app = await start(kind, binding);
    expect(await observeEvents(app)).toEqual(allPolicies);
    await expect(app.ask()).rejects.toThrow('card **** is refused');
    expect(app.observed.asked).toBe(3);
    expect(await app.shop.deadLetters(2)).toHaveLength(2);
  });

  it.each(globalWays)('the four interceptors hold globally by %s, for events', async (_, binding) => {
    const app = await start(kind, binding);
    expect(await observeEvents(app)).toEqual(allPolicies);
    await expect(app.ask()).rejects.toThrow('card **** is refused');
    expect(app.observed.asked).toBe(1);
    expect(await app.shop.deadLetters(1)).toHaveLength(1);
  });

  it('global ones hold for requests with `requests: true`', async () => {
    const globals = [
      new RetryInterceptor({ ...retry, requests: true }),
      new DeadLetterInterceptor({ requests: true }),
    ];
    const app = await start(kind, { globals });
    await expect(app.ask()).rejects.toThrow('card 4111 is refused');
    expect(app.observed.asked).toBe(3);
    expect(await app.shop.deadLetters(1)).toHaveLength(1);
  });

  it('the classes alone have the options of the module', async () => {
    const app = await start(kind, { onMethods: [...classes] }, { retry, deadLetter });
    expect(await observeEvents(app)).toEqual({ ...allPolicies, correlations: ['m-3', 'm-3'] });
    await expect(app.ask()).rejects.toThrow('card **** is refused');
    expect(app.observed.asked).toBe(3);
    await app.send('talks', 'm-4', { 'X-Correlation-Id': 'talk-2' });
    expect(app.observed.correlations.slice(2)).toEqual(['talk-2', 'talk-2']);
  });
});

describe('several interceptors of one policy', () => {
  const times = (maxRetries: number) => new RetryInterceptor({ maxRetries });

  it.each<[string, Binding, number]>([
    ['class over global', { globals: [times(1)], onClass: [times(2)] }, 3],
    ['method over class', { onClass: [times(1)], onMethods: [times(2)] }, 3],
    ['a method without the option keeps it', { onClass: [times(2)], onMethods: [RetryInterceptor] }, 3],
    ['the last listed', { onMethods: [times(1), new RetryInterceptor({ requests: false }), times(2)] }, 3],
    ['a decorator over an interceptor', { onMethods: [times(1)], decorators: [Retry({ maxRetries: 2 })] }, 3],
    ['the last global', { globals: [times(2), times(1)] }, 2],
  ])('merge field by field: %s', async (_, binding, attempts) => {
    const { send, observed } = await start('worker', binding, { retry: { ...retry, maxRetries: 0 } });
    await send('fails');
    expect(observed.failed).toBe(attempts);
  });

  it('take the correlation id from the innermost header that has one', async () => {
    const { send, observed } = await start('worker', {
      globals: [new CorrelationInterceptor({ header: 'x-outer' })],
      onClass: [new CorrelationInterceptor({ header: 'x-middle' })],
      onMethods: [CorrelationInterceptor],
    });
    await send('talks', 'm-1', { 'x-outer': 'outer', 'x-middle': 'middle', 'x-correlation-id': 'inner' });
    await send('talks', 'm-2', { 'x-outer': 'outer', 'x-middle': 'middle' });
    await send('talks', 'm-3', { 'x-outer': 'outer', 'x-middle': 'two words' });
    await send('talks', 'm-4', { 'x-outer': 'outer', 'stork-correlation-id': 'stork' });
    const ids = observed.correlations.filter((_, index) => index % 2 === 0);
    expect(ids).toEqual(['inner', 'middle', 'outer', 'stork']);
  });
});

describe('the correlation of a message', () => {
  it('is one new id where the message has none', async () => {
    const { send, observed } = await start('worker', { onMethods: [CorrelationInterceptor] });
    await send('talks');
    const [ofContext, ofSent] = observed.correlations;
    expect(ofContext).toMatch(/^[\da-f]{8}-[\da-f-]{27}$/);
    expect(ofSent).toBe(ofContext);
  });

  it('is not followed without the interceptor where no client is injected', async () => {
    const { send, observed } = await start('worker', {});
    await send('talks', 'm-1', { 'x-correlation-id': 'talk-1' });
    await send('talks', undefined, { 'x-correlation-id': 'talk-1' });
    expect(observed.correlations).toEqual(['m-1', undefined, undefined, undefined]);
  });
});

describe('a testing module', () => {
  async function attemptsWith(override: 'interceptor' | 'provider', useValue: object): Promise<number> {
    const shop = new Shop();
    onTestFinished(() => shop.broker.close());
    const observed = new Observed();
    const builder = Test.createTestingModule({
      imports: [shop.stork()],
      controllers: [newOrders({ onMethods: [RetryInterceptor] }, observed)],
      providers: [{ provide: RetryInterceptor, useValue: new RetryInterceptor(retry) }],
    });
    const overriding =
      override === 'interceptor'
        ? builder.overrideInterceptor(RetryInterceptor)
        : builder.overrideProvider(RetryInterceptor);
    const testing = await overriding.useValue(useValue).compile();
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    onTestFinished(() => app.close());
    await app.listen();
    shop.broker.publish('', shop.queue, { body: Buffer.from('1'), properties: { type: 'fails' } });
    await shop.deadLetters(1);
    return observed.failed;
  }

  it('overrides the policy of a class', async () => {
    const once = new RetryInterceptor({ ...retry, maxRetries: 1 });
    expect(await attemptsWith('interceptor', once)).toBe(2);
    expect(await attemptsWith('provider', once)).toBe(2);
  });

  it('removes the policy by an interceptor without one', async () => {
    const intercept: NestInterceptor['intercept'] = (_, next) => next.handle();
    expect(await attemptsWith('interceptor', { intercept })).toBe(1);
    expect(await attemptsWith('provider', { intercept })).toBe(1);
  });
});

describe('the start is refused, by name, with', () => {
  @Injectable({ scope: Scope.REQUEST })
  class PerRequest extends RetryInterceptor {}
  @Injectable({ scope: Scope.REQUEST, durable: true })
  class PerTenant extends CorrelationInterceptor {}
  @Injectable({ scope: Scope.TRANSIENT })
  class PerConsumer extends DeadLetterInterceptor {}
  @Injectable()
  class OfRequest extends IdempotencyInterceptor {
    @Inject(REQUEST)
    readonly request!: unknown;
  }
  @Injectable({ scope: Scope.REQUEST })
  class Tenant {
    readonly maxRetries = 9;
  }
  @Injectable()
  class OfTenant extends RetryInterceptor {
    constructor({ maxRetries }: Tenant) {
      super({ maxRetries });
    }
  }
  class Times extends RetryInterceptor {
    constructor(maxRetries: number) {
      super({ maxRetries });
    }
  }
  class Unset extends RetryInterceptor {
    override readonly options = undefined as never;
  }
  class Negative extends RetryInterceptor {
    override readonly options = { delayMs: -1 };
  }
  const oneInstance = 'expected one instance for the application, because its options are read at boot';
  const scoped = (useClass: Type<NestInterceptor>) => ({
    metadata: { providers: [{ provide: APP_INTERCEPTOR, useClass, scope: Scope.REQUEST }] },
  });

  it.each<[string, Binding, string, string]>([
    [
      'a request-scoped class',
      { onMethods: [PerRequest] },
      `@UseInterceptors(PerRequest) of Orders.fails: ${oneInstance}`,
      'given Scope.REQUEST',
    ],
    [
      'a durable class',
      { onClass: [PerTenant] },
      `@UseInterceptors(PerTenant) of Orders: ${oneInstance}`,
      'given Scope.REQUEST',
    ],
    [
      'a transient class',
      { onMethods: [PerConsumer] },
      `@UseInterceptors(PerConsumer) of Orders.once: ${oneInstance}`,
      'given Scope.TRANSIENT',
    ],
    [
      'a class that injects the request',
      { onClass: [OfRequest] },
      `@UseInterceptors(OfRequest) of Orders: ${oneInstance}`,
      'given a request-scoped dependency',
    ],
    [
      'a class that injects a request-scoped provider',
      { onMethods: [OfTenant], metadata: { providers: [Tenant] } },
      `@UseInterceptors(OfTenant) of Orders.asks: ${oneInstance}`,
      'given a request-scoped dependency',
    ],
    [
      'a request-scoped provider of a class',
      {
        onMethods: [RetryInterceptor],
        metadata: {
          providers: [
            { provide: RetryInterceptor, scope: Scope.REQUEST, useFactory: () => new RetryInterceptor() },
          ],
        },
      },
      `@UseInterceptors(RetryInterceptor) of Orders.fails: ${oneInstance}`,
      'given Scope.REQUEST',
    ],
    [
      'a request-scoped global class',
      scoped(RetryInterceptor),
      `APP_INTERCEPTOR (RetryInterceptor): ${oneInstance}`,
      'given Scope.REQUEST',
    ],
    [
      'a global class that is request-scoped by its decorator',
      {
        metadata: {
          providers: [{ provide: APP_INTERCEPTOR, useClass: PerConsumer, scope: Scope.TRANSIENT }],
        },
      },
      `APP_INTERCEPTOR (PerConsumer): ${oneInstance}`,
      'given Scope.TRANSIENT',
    ],
    [
      'a global class that injects a request-scoped provider',
      { metadata: { providers: [Tenant, { provide: APP_INTERCEPTOR, useClass: OfTenant }] } },
      'OfTenant',
      'request-scoped',
    ],
    [
      'a class whose arguments nothing provides',
      { onMethods: [Times] },
      '@UseInterceptors(Times) of Orders.fails: expected a class with @Injectable(), whose constructor arguments Nest injects',
      'given a constructor with arguments that Nest cannot inject',
    ],
    [
      'a class without options',
      { onClass: [Unset] },
      `Unset of Orders: ${oneInstance}`,
      'given no options; was its constructor not called',
    ],
    [
      'a global interceptor without options',
      { globals: [new Unset()] },
      `new Unset of the application: ${oneInstance}`,
      'given no options',
    ],
    [
      'invalid options of a class',
      { onMethods: [Negative] },
      'Negative({ delayMs }) of Orders.fails: expected an integer from 0 up',
      'given -1',
    ],
    [
      'invalid options of a global interceptor',
      { globals: [new IdempotencyInterceptor({ leaseMs: 1 })] },
      'new IdempotencyInterceptor({ leaseMs }) of the application: expected an integer from 100 up',
      'given 1',
    ],
  ])('%s', async (_, binding, name, given) => {
    const refusal = await start('worker', binding).then(
      () => 'none',
      (error: unknown) => (error as Error).message,
    );
    expect(refusal).toContain(name);
    expect(refusal).toContain(given);
  });

  it('a class that is bound after the application was created', async () => {
    const shop = new Shop();
    onTestFinished(() => shop.broker.close());
    const Orders = newOrders({}, new Observed());
    const testing = await shop.compile([Orders]);
    UseInterceptors(RetryInterceptor)(Orders);
    const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
    onTestFinished(() => app.close());
    await expect(app.listen()).rejects.toThrow(
      '@UseInterceptors(RetryInterceptor) of Orders: expected a decorator that is applied before the application is created',
    );
  });
});
