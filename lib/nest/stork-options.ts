import type { ModuleMetadata, Provider, Type } from '@nestjs/common';
import type { MessageCodec } from '../core/message/codec.js';
import type { DeadLetterOptions } from '../core/dead-letter/dead-letter-options.js';
import type { IdempotencyOptions } from '../core/idempotency/idempotency-options.js';
import type { RetryOptions } from '../core/retry/retry-options.js';
import type { TransportDefinition } from './bootstrap/transport-definition.js';

/** Transports by name. @publicApi */
export type NamedTransports = Readonly<Record<string, TransportDefinition>>;

/**
 * Options of `StorkModule.forRoot()`.
 *
 * @publicApi
 */
export interface StorkModuleOptions {
  /**
   * Transports by the name that `via()` and `@InjectClient()` use: `rabbitmq({…})`, `kafka({…})` or
   * `memory({…})`. Feature modules add theirs by `StorkModule.forFeature()`.
   *
   * @defaultValue none, if a feature module has one
   */
  readonly transports?: NamedTransports;
  /**
   * Whether the module is global, so that other modules inject clients without importing it.
   *
   * @defaultValue true
   */
  readonly isGlobal?: boolean;
  /**
   * Body codecs for all transports. A codec for a built-in content type replaces the built-in one.
   *
   * @defaultValue []
   */
  readonly codecs?: readonly MessageCodec[];
  /**
   * How long a whole shutdown may take, in milliseconds, from `app.close()` or the signal until every
   * connection is closed. Running handlers are aborted when a quarter of it is left, at most 5 seconds: the
   * rest is for leaving queues and groups and for closing. Time in hooks of other providers counts.
   *
   * @defaultValue 20 000
   */
  readonly drainTimeoutMs?: number;
  /**
   * How long the start waits for a broker before `listen()` rejects, in milliseconds.
   *
   * @defaultValue 60 000
   */
  readonly startTimeoutMs?: number;
  /**
   * Whether the caller of a failed request gets name and message of an error that was not meant for it. False
   * sends `Internal server error` instead, as Nest does. An `RpcException`, an `HttpException` and what an
   * exception filter returns are always sent.
   *
   * @defaultValue true
   */
  readonly exposeErrors?: boolean;
  /**
   * How failed attempts are retried.
   *
   * @defaultValue 3 in-process retries, after at most 1, 2 and 4 seconds
   */
  readonly retry?: RetryOptions | undefined;
  /**
   * How messages are dead-lettered when the last attempt has failed.
   *
   * @defaultValue events are dead-lettered; requests are not, their callers get the error
   */
  readonly deadLetter?: DeadLetterOptions | undefined;
  /**
   * Defaults for `@Idempotent()` handlers.
   *
   * @defaultValue a store in memory, which other processes do not share
   */
  readonly idempotency?: IdempotencyOptions | undefined;
}

/** Interface of the factory class of `forRootAsync({ useClass | useExisting })`. @publicApi */
export interface StorkOptionsFactory {
  /** Returns the options; called once when the module is created. */
  createStorkOptions(): StorkModuleOptions | Promise<StorkModuleOptions>;
}

/**
 * Options of `StorkModule.forRootAsync()`. One of `useFactory`, `useClass` and `useExisting` is required.
 *
 * @publicApi
 */
export interface StorkModuleAsyncOptions extends Pick<ModuleMetadata, 'imports'> {
  /**
   * Names of the transports that the factory returns: Nest registers the clients' tokens before the
   * factory runs.
   *
   * @defaultValue none
   */
  readonly transports?: readonly string[];
  /**
   * Whether the module is global, so that other modules inject clients without importing it.
   *
   * @defaultValue true
   */
  readonly isGlobal?: boolean;
  /** Returns the options; its parameters are the providers of `inject`. */
  useFactory?(this: void, ...args: readonly unknown[]): StorkModuleOptions | Promise<StorkModuleOptions>;
  /** Tokens of the providers that `useFactory` gets. @defaultValue [] */
  readonly inject?: NonNullable<Extract<Provider, { useFactory: unknown }>['inject']>;
  /** A class that the module instantiates. */
  readonly useClass?: Type<StorkOptionsFactory>;
  /** A class that `imports` or `extraProviders` provide. */
  readonly useExisting?: Type<StorkOptionsFactory>;
  /** Further providers of the module, e.g. dependencies of the factory. @defaultValue [] */
  readonly extraProviders?: readonly Provider[];
}
