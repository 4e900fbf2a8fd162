import { Inject, Injectable, Logger } from '@nestjs/common';
import { EMPTY, ReplaySubject, switchMap, type Observable } from 'rxjs';
import type { StorkClock } from '../../core/runtime/clock.js';
import type { CorrelationTracking } from '../../core/publish/correlation-context.js';
import { Counters } from '../../core/runtime/reporting.js';
import { StorkConfigError, type ConfigProblem } from '../../core/runtime/errors.js';
import type { IdempotencyStore } from '../../core/idempotency/idempotency-store.js';
import type { ConnectionState } from '../../core/port/connection-state.js';
import { StorkTransport } from '../../core/stork-transport.js';
import { StorkContext } from '../context/stork.context.js';
import type { NamedTransports, StorkModuleOptions } from '../stork-options.js';
import { featuresOf, importersOf, isFeature, type FeatureTransports } from './feature-transports.js';
import { IdempotencyStores } from './idempotency-stores.js';
import { NestCore } from './nest-core.js';
import { ShutdownDeadline } from './shutdown-deadline.js';
import type { TransportDefinition } from './transport-definition.js';
import type { BasePolicyOptions } from '../decorators/policy-metadata.js';
import { STORK_CLOCK, STORK_DECLARED_TRANSPORTS, STORK_OPTIONS, STORK_SERVER } from '../stork.constants.js';
import { validateModuleOptions } from '../validation/validate-module.js';

/** Below the 30 s of Kubernetes, which leaves 10 s to the hooks of other providers. */
const defaultDrainTimeoutMs = 20_000;
const defaultConcurrency = 10;
/** Messages that may wait between attempts by default, for each concurrency slot. */
const waitingPerSlot = 10;
const defaultStartTimeoutMs = 60_000;
const defaultMaxBodyBytes = 16 * 1024 * 1024;

/**
 * The transports of one application. The constructor does no I/O and no validation, so that wrong options
 * reject `app.listen()` or `app.startAllMicroservices()` and not the creation of the application.
 */
@Injectable()
export class TransportRegistry {
  /** Names of all transports, known before the options are validated. */
  readonly names: readonly string[];
  readonly drainTimeoutMs: number;
  readonly shutdown: ShutdownDeadline;
  readonly correlation: CorrelationTracking = { isEnabled: false };
  readonly #options: StorkModuleOptions;
  readonly #startTimeoutMs: number;
  readonly #declared: readonly string[];
  readonly #features: readonly FeatureTransports[];
  /** Of `forRoot()` and all `forFeature()`, not validated. */
  readonly #definitions: ReadonlyMap<string, TransportDefinition>;
  readonly #clock: StorkClock;
  readonly #nest: NestCore;
  readonly #transports = new Map<string, StorkTransport>();
  readonly #logger = new Logger('Stork');
  readonly #stores: IdempotencyStores;
  readonly #whenCreated = new ReplaySubject<ReadonlyMap<string, StorkTransport>>(1);
  #checked: { readonly problems: readonly ConfigProblem[] } | undefined;

  constructor(
    @Inject(STORK_OPTIONS) options: StorkModuleOptions,
    @Inject(STORK_DECLARED_TRANSPORTS) declared: readonly string[],
    @Inject(STORK_CLOCK) clock: StorkClock,
    nest: NestCore,
  ) {
    this.#options = options;
    this.#declared = declared;
    this.#clock = clock;
    this.#nest = nest;
    this.#features = featuresOf(nest.modules);
    const added = this.#features.flatMap(({ transports }) => Object.keys(transports ?? {}));
    this.names = [...declared, ...added];
    this.#definitions = new Map(
      [options?.transports, ...this.#features.map(({ transports }) => transports)].flatMap((transports) =>
        Object.entries((transports ?? {}) as NamedTransports),
      ),
    );
    this.#stores = new IdempotencyStores(clock, this.#logger);
    this.drainTimeoutMs = options?.drainTimeoutMs ?? defaultDrainTimeoutMs;
    this.shutdown = new ShutdownDeadline(clock, this.drainTimeoutMs);
    this.#startTimeoutMs = options?.startTimeoutMs ?? defaultStartTimeoutMs;
  }

  get clock(): StorkClock {
    return this.#clock;
  }

  get(name: string): StorkTransport {
    const transport = this.all().get(name);
    if (transport !== undefined) return transport;
    throw new StorkConfigError(
      `the transport ${JSON.stringify(name)} was added by a forFeature() that was loaded after the application had started`,
    );
  }

  /** The transport's `handlers` option. */
  handlersOn(name: string): 'all' | 'explicit' | 'none' {
    return this.#definitions.get(name)!.common.handlers ?? 'all';
  }

  /** The transport's `required` option. */
  isRequired(name: string): boolean {
    return this.#definitions.get(name)!.common.required ?? true;
  }

  /** Policies of the module, then of the transport, which override them. */
  policiesOf(name: string): BasePolicyOptions {
    const { common } = this.#definitions.get(name)!;
    return {
      retry: [this.#options.retry, common.retry],
      deadLetter: [this.#options.deadLetter, common.deadLetter],
      idempotency: [this.#options.idempotency, common.idempotency],
    };
  }

  /** The store of a transport's idempotent handlers: its own, else the module's, else one in memory. */
  idempotencyStoreOf(name: string): IdempotencyStore {
    const { common } = this.#definitions.get(name)!;
    const configured = common.idempotency?.store ?? this.#options.idempotency?.store;
    return configured === undefined ? this.#stores.inMemory() : this.#stores.of(configured);
  }

  /** Called when all transports are closed, so that no handler uses a store any more. Never rejects. */
  closeStores(limitMs: number): Promise<void> {
    return this.#stores.close(limitMs);
  }

  /** Class of the object that handlers of this transport get by `@Ctx()`. */
  contextOf(name: string): typeof StorkContext {
    return this.#definitions.get(name)!.context ?? StorkContext;
  }

  /**
   * All transports by name; creates them on the first call.
   *
   * @throws StorkConfigError with every problem of the options
   */
  all(): ReadonlyMap<string, StorkTransport> {
    this.#check();
    if (this.#transports.size === 0) this.#create();
    return this.#transports;
  }

  /** Undefined as long as the transport is not created. */
  countersOf(name: string): Counters | undefined {
    return this.#transports.get(name)?.counters;
  }

  /** The connection states of a transport, from its creation on. None if it was added after the start. */
  statesOf(name: string): Observable<ConnectionState> {
    return this.#whenCreated.pipe(
      switchMap((transports) => transports.get(name)?.driver.state.changes ?? EMPTY),
    );
  }

  /** The transports created so far: the ones that a shutdown must close. */
  created(): Iterable<StorkTransport> {
    return this.#transports.values();
  }

  #check(): void {
    this.#checked ??= { problems: this.#findProblems() };
    if (this.#checked.problems.length > 0) throw new StorkConfigError(this.#checked.problems);
  }

  #findProblems(): ConfigProblem[] {
    const problems = validateModuleOptions(this.#options, this.#declared, this.#features);
    // Nest instantiates this module's providers once for each forRoot() call in the application.
    const storkModules = [...this.#nest.modules.values()].filter(({ providers }) =>
      providers.has(STORK_SERVER),
    );
    if (storkModules.length > 1) {
      const classes = new Set<unknown>(storkModules.map(({ metatype }) => metatype));
      const isRoot = (entry: unknown): boolean =>
        classes.has(entry) ||
        (classes.has((entry as { module?: unknown } | undefined)?.module) && !isFeature(entry));
      const importers = importersOf(this.#nest.modules, isRoot);
      problems.push({
        name: 'StorkModule',
        expected: 'one forRoot() in an application; feature modules add transports by forFeature()',
        given: `${storkModules.length}, imported by ${importers.join(' and ')}`,
      });
    }
    return problems;
  }

  #create(): void {
    const shared = new Map<symbol, unknown>();
    for (const [name, definition] of this.#definitions) {
      const { common } = definition;
      const { concurrency = defaultConcurrency } = common;
      const counters = new Counters();
      const environment = { name, clock: this.#clock, logger: this.#logger, counters, shared };
      const transport = new StorkTransport({
        name,
        driver: definition.createDriver(environment),
        settings: {
          concurrency,
          maxWaiting: common.maxWaiting ?? concurrency * waitingPerSlot,
          maxBodyBytes: common.maxBodyBytes ?? defaultMaxBodyBytes,
          maxPending: common.maxPending ?? 10_000,
          publishTimeoutMs: common.publishTimeoutMs ?? 30_000,
          startTimeoutMs: this.#startTimeoutMs,
          onUnhandled: common.onUnhandled,
          exposeErrors: common.exposeErrors ?? this.#options.exposeErrors ?? true,
          codecs: [...(this.#options.codecs ?? []), ...(common.codecs ?? [])],
          defaultContentType: common.defaultContentType ?? 'application/json',
        },
        clock: this.#clock,
        logger: this.#logger,
        counters,
      });
      this.#transports.set(name, transport);
    }
    this.#whenCreated.next(this.#transports);
  }
}
