import type { StorkContext } from 'nestjs-stork';
import type { TransportDefinition } from '../../lib/nest/bootstrap/transport-definition.js';
import type { CommonTransportOptions } from '../../lib/nest/transport-options.js';
import type { Capabilities } from '../../lib/core/port/driver.js';
import type { MessageHeaders } from '../../lib/core/message/headers.js';

/** A message as a program writes it that has never heard of this library. */
export interface RawMessage {
  readonly body: Buffer;
  readonly pattern?: string;
  readonly contentType?: string;
  readonly headers?: MessageHeaders;
  readonly messageId?: string;
  readonly key?: string;
  /** Milliseconds since the epoch, as the sender claims. */
  readonly timestamp?: number;
  /** Text that claims to be a reply address. */
  readonly replyTo?: string;
}

export interface RawLetter {
  readonly body: Buffer | null;
  readonly headers: MessageHeaders;
}

/**
 * What a driver brings to the contract suite. The suite consumes one queue by the default exchange, or one topic with
 * `patternHeader: 'stork-pattern'` and `onUnhandled: 'dead-letter'`.
 */
export interface DriverHarness {
  readonly name: string;
  readonly capabilities: Capabilities;
  /** A transport that consumes `source`. Two with the same source share its messages between them. */
  transport(source: string, options?: CommonTransportOptions): TransportDefinition;
  publishRaw(source: string, message: RawMessage): Promise<void>;
  /** Everything dead-lettered from `source`, oldest first; takes nothing away. */
  deadLetters(source: string): Promise<readonly RawLetter[]>;
  /** Name of the source in which dead letters of `source` lie. */
  deadLetterSource(source: string): string;
  /** Messages of `source` that no consumer has; brokers that know more may count what consumers have not settled too. */
  waiting(source: string): Promise<number>;
  /**
   * Breaks every connection to the broker, as a network would, for long enough that it gives up on consumers whose transport is
   * `impatient`.
   */
  dropConnections(): Promise<void>;
  /** Addresses that are not reply addresses, `source` itself among them. */
  forgedReplyAddresses(source: string): readonly string[];
  /** A well-formed reply address at which nobody listens. */
  readonly deserted: string;
  /** Transport options with which the broker soon gives up on a consumer that is away. */
  readonly impatient: CommonTransportOptions;
  /** Transport options with which the broker hands over one message at a time. */
  readonly oneAtATime: CommonTransportOptions;
  /** Transport options with which priorities count. */
  readonly withPriority: CommonTransportOptions;
  /** What the broker's own properties of a message say. */
  propertiesOf(context: StorkContext): { appId: unknown; persistent: unknown };
  /** True where the broker is left out on purpose: every test is then counted as skipped. */
  readonly skip?: boolean;
  open(): Promise<void>;
  close(): Promise<void>;
}
