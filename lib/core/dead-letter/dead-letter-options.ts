import type { Capabilities } from '../port/driver.js';
import type { FailureReason } from '../runtime/failure.js';
import { mergeLayers } from '../runtime/merge-options.js';

/** A stored dead letter, as `onDeadLetter` receives it. @publicApi */
export interface DeadLetterNotice {
  readonly reason: FailureReason;
  readonly transport: string;
  readonly pattern: string;
  /** Id of the failed handler, or of the handler that the message names; undefined if there is neither. */
  readonly handler: string | undefined;
  readonly messageId: string | undefined;
  /** Number of the last attempt, or of the next one if no handler was called. */
  readonly attempt: number;
  /** The error as thrown; `redact` applies only to what is stored. */
  readonly error: unknown;
}

/**
 * What happens to a message whose handler has failed finally. Options that are not set come from the class,
 * the transport, the module. A message that cannot be decoded, is invalid or has no handler is always
 * dead-lettered; `includeStack`, `redact` and `onDeadLetter` of the transport, the module and the
 * application's interceptors apply to it.
 *
 * @publicApi
 */
export interface DeadLetterOptions {
  /**
   * False: a message that this handler fails to process is dropped, counted as `dropped` and logged. A
   * message that the handler rejects is dead-lettered nevertheless. @defaultValue true
   */
  readonly enabled?: boolean | undefined;
  /**
   * Whether failed requests are dead-lettered, in addition to the error reply. @defaultValue false; true by
   * `@DeadLetter()` or a `DeadLetterInterceptor` on the handler or its class
   */
  readonly requests?: boolean | undefined;
  /**
   * Dead letter queue of the handler, on a transport of queues. Declared at startup like the default. A
   * transport that consumes it requires a name that ends in `.dlq`. Messages that the broker dead-letters,
   * or that have no handler, go to the default queue. @defaultValue `<queue>.dlq`
   */
  readonly queue?: string | undefined;
  /**
   * Dead letter topic of the handler, on a transport of topics. Declared at startup like the default.
   * @defaultValue `<topic>.dlq`
   */
  readonly topic?: string | undefined;
  /** Whether the dead letter contains the error's stack. @defaultValue true */
  readonly includeStack?: boolean | undefined;
  /**
   * Removes sensitive data from the error's message and stack before they are stored. If it throws, neither
   * is stored. @defaultValue no redaction
   */
  readonly redact?: ((text: string) => string) | undefined;
  /**
   * Called after the dead letter is stored; the message is settled and does not wait for it. If it throws,
   * or takes longer than 5 s, the error is logged. A shutdown waits for it within `drainTimeoutMs`.
   * @defaultValue none
   */
  readonly onDeadLetter?: ((deadLetter: DeadLetterNotice) => void | Promise<void>) | undefined;
}

/** `DeadLetterOptions` with all defaults applied. */
export interface DeadLetterPolicy extends DeadLetterOptions {
  readonly enabled: boolean;
  readonly requests: boolean;
  readonly includeStack: boolean;
}

/** What a dead letter may disclose, and who is notified. */
export type DisclosurePolicy = Pick<DeadLetterPolicy, 'includeStack' | 'redact' | 'onDeadLetter'>;

const defaults: DeadLetterPolicy = { enabled: true, requests: false, includeStack: true };

/** Merges field by field; a later layer overrides an earlier one. */
export function resolveDeadLetter(...layers: readonly (DeadLetterOptions | undefined)[]): DeadLetterPolicy {
  return mergeLayers(defaults, ...layers) as unknown as DeadLetterPolicy;
}

/** The dead letter queue or topic of a handler on a transport; undefined: the default of the source. */
export function deadLetterTarget(
  policy: Pick<DeadLetterOptions, 'queue' | 'topic'> | undefined,
  capabilities: Pick<Capabilities, 'destinations'>,
): string | undefined {
  return policy?.[targetKind(capabilities)];
}

export function targetKind({ destinations }: Pick<Capabilities, 'destinations'>): 'queue' | 'topic' {
  return destinations.has('topic') ? 'topic' : 'queue';
}
