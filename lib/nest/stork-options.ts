import type { ModuleMetadata, Provider, Type } from '@nestjs/common';
import type { MessageCodec } from '../core/message/codec.js';
import type { DeadLetterOptions } from '../core/dead-letter/dead-letter-options.js';
import type { IdempotencyOptions } from '../core/idempotency/idempotency-options.js';
import type { RetryOptions } from '../core/retry/retry-options.js';
import type { TransportDefinition } from './bootstrap/transport-definition.js';

/**
 * Options of `StorkModule.forRoot()`.
 *
 * @publicApi
 */
export interface StorkModuleOptions {
  /** Name → `rabbitmq({…})`, `kafka({…})` or `memory({…})`. The name is what `via()` and `@InjectClient()` say. */
  readonly transports: Readonly<Record<string, TransportDefinition>>;
  /** Whether clients can be injected without importing the module again. @defaultValue true */
  readonly isGlobal?: boolean;
  /** Body codecs for every transport; one for a built-in content type replaces it. @defaultValue [] */
  readonly codecs?: readonly MessageCodec[];
  /** How long a shutdown waits for handlers at work before it aborts them. @defaultValue 30 000 */
  readonly drainTimeoutMs?: number;
  /** How long the start waits for a broker before `listen()` rejects. @defaultValue 60 000 */
  readonly startTimeoutMs?: number;
  /** What happens after a run of any handler has failed. @defaultValue three more in place, after 1, 2 and 4 seconds at most */
  readonly retry?: RetryOptions | undefined;
  /** What is kept of messages whose handler has failed for good. @defaultValue all of events, nothing of requests */
  readonly deadLetter?: DeadLetterOptions | undefined;
  /** Defaults for handlers that are `@Idempotent()`. @defaultValue a store in memory, which knows this process alone */
  readonly idempotency?: IdempotencyOptions | undefined;
}

/** What a factory class of `forRootAsync({ useClass | useExisting })` implements. @publicApi */
export interface StorkOptionsFactory {
  createStorkOptions(): StorkModuleOptions | Promise<StorkModuleOptions>;
}

/**
 * Options of `StorkModule.forRootAsync()`. One of `useFactory`, `useClass`, `useExisting` is needed.
 *
 * @publicApi
 */
export interface StorkModuleAsyncOptions extends Pick<ModuleMetadata, 'imports'> {
  /** Names of the transports that the factory will return: Nest must know what can be injected before it runs. */
  readonly transports: readonly string[];
  readonly isGlobal?: boolean;
  // oxlint-disable-next-line typescript/no-explicit-any -- the factory's parameters are whatever `inject` names, as in Nest's own modules
  readonly useFactory?: (...args: any[]) => StorkModuleOptions | Promise<StorkModuleOptions>;
  readonly inject?: NonNullable<Extract<Provider, { useFactory: unknown }>['inject']>;
  readonly useClass?: Type<StorkOptionsFactory>;
  readonly useExisting?: Type<StorkOptionsFactory>;
  readonly extraProviders?: readonly Provider[];
}
