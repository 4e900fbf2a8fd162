import type { Type } from '@nestjs/common';
import type { ApplicationConfig } from '@nestjs/core';
import { StorkConfigError } from '../../core/runtime/errors.js';
import { policyOfClass } from '../interceptors/policy-brand.js';

const kinds = ['pipes', 'guards', 'filters', 'interceptors'] as const;
type Kind = (typeof kinds)[number];

interface GlobalEnhancer {
  readonly kind: Kind;
  /** The instance, or the provider of a request-scoped one: each of them once in a configuration. */
  readonly registered: unknown;
  readonly type: unknown;
}

/**
 * The global enhancers of a hybrid application and of the microservice in it: which of them apply to message
 * handlers, and what the start says about the others.
 */
export class HybridEnhancers {
  readonly #application: ApplicationConfig;
  readonly #microservice: ApplicationConfig;
  readonly #inherits: boolean;
  /** What handlers had of the application when they were bound. */
  #bound: ReadonlySet<unknown> | undefined;

  /** @param microservice the application's own, if the microservice inherits it */
  constructor(application: ApplicationConfig, microservice: ApplicationConfig) {
    this.#application = application;
    this.#microservice = microservice;
    this.#inherits = application === microservice;
  }

  /** Interceptors that may be policies: those of the application count although Nest does not call them. */
  get interceptors(): readonly unknown[] {
    const own = this.#inherits ? [] : this.#microservice.getGlobalInterceptors();
    return [...this.#application.getGlobalInterceptors(), ...own];
  }

  /** Called when the handlers are bound: enhancers that are registered later do not apply to them. */
  markBound(): void {
    this.#bound = new Set(this.#applied().map(({ registered }) => registered));
  }

  /** @throws StorkConfigError if the application has got enhancers since that handlers should have */
  assertAllBound(): void {
    const late = this.#applied().filter(({ registered }) => this.#bound?.has(registered) === false);
    if (late.length === 0) return;
    throw new StorkConfigError(
      `${list(late)}: registered after app.startAllMicroservices(), which binds the message handlers, and would not apply to them; ` +
        `call ${calls(late)} before`,
    );
  }

  /** The start's warning; undefined if there is nothing to warn of. */
  advice(): string | undefined {
    const foreign = enhancersOf(this.#application).filter(({ type }) => !isOurs(type));
    return this.#inherits ? adviceOnInherited(foreign) : adviceOnMissing(this.#without(foreign));
  }

  /** Those of the application that apply to handlers. */
  #applied(): readonly GlobalEnhancer[] {
    const all = enhancersOf(this.#application);
    return this.#inherits ? all : all.filter(({ type }) => isOurs(type));
  }

  /** A class that the microservice has too is not missing. */
  #without(enhancers: readonly GlobalEnhancer[]): readonly GlobalEnhancer[] {
    const own = new Set(enhancersOf(this.#microservice).map(({ type }) => type));
    return enhancers.filter(({ type }) => !isNamed(type) || !own.has(type));
  }
}

function adviceOnMissing(missing: readonly GlobalEnhancer[]): string | undefined {
  if (missing.length === 0) return undefined;
  return (
    `message handlers do not get these global enhancers of the application: ${list(missing)}; ` +
    `connectStork(app, { inheritAppConfig: true }) applies all of them, ${calls(missing)} on the microservice that connectStork() returns applies some`
  );
}

/** A pipe receives no execution context, so it cannot check for HTTP; most pipes suit both. */
function adviceOnInherited(inherited: readonly GlobalEnhancer[]): string | undefined {
  const called = inherited.filter(({ kind }) => kind !== 'pipes');
  if (called.length === 0) return undefined;
  return (
    `message handlers get these global enhancers of the application too: ${list(called)}; ` +
    "those that are written for HTTP must check context.getType() === 'http' (in a filter host.getType()), or each message fails in them"
  );
}

/** E.g. `guards JwtGuard, Throttler, filters AllExceptions`. */
function list(enhancers: readonly GlobalEnhancer[]): string {
  return groups(enhancers)
    .map(([kind, names]) => `${kind} ${names.join(', ')}`)
    .join(', ');
}

/** E.g. `useGlobalGuards() and useGlobalFilters()`. */
function calls(enhancers: readonly GlobalEnhancer[]): string {
  return groups(enhancers)
    .map(([kind]) => `useGlobal${kind[0]!.toUpperCase()}${kind.slice(1)}()`)
    .join(' and ');
}

function groups(enhancers: readonly GlobalEnhancer[]): (readonly [Kind, readonly string[]])[] {
  return kinds.flatMap((kind) => {
    const names = enhancers.filter((one) => one.kind === kind).map(({ type }) => nameOfType(type));
    return names.length === 0 ? [] : [[kind, [...new Set(names)]] as const];
  });
}

function nameOfType(type: unknown): string {
  return isNamed(type) ? type.name : '(without a class)';
}

function isNamed(type: unknown): type is Type {
  return typeof type === 'function' && type !== Object && type.name !== '';
}

function enhancersOf(config: ApplicationConfig): readonly GlobalEnhancer[] {
  const registered = {
    pipes: [config.getGlobalPipes(), config.getGlobalRequestPipes()],
    guards: [config.getGlobalGuards(), config.getGlobalRequestGuards()],
    filters: [config.getGlobalFilters(), config.getGlobalRequestFilters()],
    interceptors: [config.getGlobalInterceptors(), config.getGlobalRequestInterceptors()],
  } as const satisfies Record<Kind, unknown>;
  return kinds.flatMap((kind) => {
    const [instances, requestScoped] = registered[kind];
    return [
      ...instances.map((instance: unknown) => ({ kind, registered: instance, type: typeOf(instance) })),
      ...requestScoped.map((wrapper) => ({
        kind,
        registered: wrapper,
        // Of a factory the wrapper holds the function, not a class.
        type: wrapper.isNotMetatype ? undefined : wrapper.metatype,
      })),
    ].filter(({ registered: one }) => one !== undefined && one !== null);
  });
}

/** Nest accepts `undefined` and `null`, and Nest 11 a class instead of an instance. */
function typeOf(instance: unknown): unknown {
  return typeof instance === 'function' ? instance : (instance as object | null | undefined)?.constructor;
}

/** They apply to handlers in every case. */
function isOurs(type: unknown): boolean {
  return policyOfClass(type) !== undefined;
}
