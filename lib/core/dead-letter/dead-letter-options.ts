import type { Capabilities } from '../port/driver.js';
import type { FailureReason } from '../runtime/failure.js';
import { mergeLayers } from '../runtime/merge-options.js';

/** What `onDeadLetter` is told. @publicApi */
export interface DeadLetterNotice {
  readonly reason: FailureReason;
  readonly transport: string;
  readonly pattern: string;
  /** Undefined where no handler has seen the message, unless it was addressed to one. */
  readonly handler: string | undefined;
  readonly messageId: string | undefined;
  /** Number of the last run, or of the one that was to come. */
  readonly attempt: number;
  /** As it is: `redact` is for what is stored. */
  readonly error: unknown;
}

/**
 * What is kept of a message whose handler has failed for good. What is left out is taken from the class, the transport, the module.
 * A message that no handler may see, because it cannot be decoded, is invalid or has no handler, is kept in any case; of its letter
 * `includeStack`, `redact` and `onDeadLetter` of the transport and the module count, and those of the application's interceptors.
 *
 * @publicApi
 */
export interface DeadLetterOptions {
  /**
   * False: a message that this handler has failed is dropped, counted `dropped` and logged. What it rejects itself is kept all the
   * same. @defaultValue true
   */
  readonly enabled?: boolean | undefined;
  /** Whether failed requests are kept too, besides the error that their caller gets. @defaultValue false; true by `@DeadLetter()` */
  readonly requests?: boolean | undefined;
  /**
   * Where the letters go on a transport of queues. It is declared at boot like the default; a transport that reads it wants a name that
   * ends in `.dlq`. What the broker itself gives up, and what no handler may see, stays with the default. @defaultValue `<queue>.dlq`
   */
  readonly queue?: string | undefined;
  /** Where they go on a transport of topics, declared at boot like the default. @defaultValue `<topic>.dlq` */
  readonly topic?: string | undefined;
  /** Whether the letter carries the error's stack. @defaultValue true */
  readonly includeStack?: boolean | undefined;
  /** Makes the error's message and stack fit to be stored. Where it throws, nothing of them is. @defaultValue as they are */
  readonly redact?: ((text: string) => string) | undefined;
  /** Called once the letter is stored. An error of it is logged and changes nothing. */
  readonly onDeadLetter?: ((deadLetter: DeadLetterNotice) => void | Promise<void>) | undefined;
}

/** Every default filled in. */
export interface DeadLetterPolicy extends DeadLetterOptions {
  readonly enabled: boolean;
  readonly requests: boolean;
  readonly includeStack: boolean;
}

const defaults: DeadLetterPolicy = { enabled: true, requests: false, includeStack: true };

/** Merges field by field; the later layer wins where it says anything. */
export function resolveDeadLetter(...layers: readonly (DeadLetterOptions | undefined)[]): DeadLetterPolicy {
  return mergeLayers(defaults, ...layers) as unknown as DeadLetterPolicy;
}

/** Where a handler's letters go on a transport; undefined: to the source's companion. */
export function deadLetterTarget(
  policy: Pick<DeadLetterOptions, 'queue' | 'topic'> | undefined,
  capabilities: Pick<Capabilities, 'destinations'>,
): string | undefined {
  return policy?.[targetKind(capabilities)];
}

export function targetKind({ destinations }: Pick<Capabilities, 'destinations'>): 'queue' | 'topic' {
  return destinations.has('topic') ? 'topic' : 'queue';
}
