import type { StorkContext } from 'nestjs-stork';
import type { TransportDefinition } from '../../lib/nest/bootstrap/transport-definition.js';
import type { CommonTransportOptions } from '../../lib/nest/transport-options.js';
import type { Capabilities } from '../../lib/core/port/driver.js';
import type { MessageHeaders } from '../../lib/core/message/headers.js';

/** A message as written by a program that does not use the library. */
export interface RawMessage {
  readonly body: Buffer;
  readonly pattern?: string;
  readonly contentType?: string;
  readonly headers?: MessageHeaders;
  readonly messageId?: string;
  readonly key?: string;
  /** Milliseconds since the Unix epoch. */
  readonly timestamp?: number;
  /** Reply address, possibly forged. */
  readonly replyTo?: string;
}

export interface RawDeadLetter {
  readonly body: Buffer | null;
  readonly headers: MessageHeaders;
}

/**
 * What the contract suite needs of a driver. The suite consumes one queue through the default exchange, or
 * one topic with `patternHeader: 'stork-pattern'` and `onUnhandled: 'dead-letter'`.
 */
export interface DriverHarness {
  readonly name: string;
  readonly capabilities: Capabilities;
  /** A transport that consumes `source`. Two transports with the same source share its messages. */
  transport(source: string, options?: CommonTransportOptions): TransportDefinition;
  publishRaw(source: string, message: RawMessage): Promise<void>;
  /** Everything dead-lettered from `source`, oldest first, without consuming it. */
  deadLetters(source: string): Promise<readonly RawDeadLetter[]>;
  /** Name of the dead letter queue or topic of `source`. */
  deadLetterSource(source: string): string;
  /** Messages of `source` that are not delivered; a driver may include delivered, unsettled ones. */
  waiting(source: string): Promise<number>;
  /**
   * Breaks every connection to the broker, as a network failure does, until the broker has removed the
   * consumers of transports with the options `impatient`.
   */
  dropConnections(): Promise<void>;
  /** Makes the broker unreachable, until `end`. Undefined if it cannot be. */
  readonly outage: { begin(): void; end(): void } | undefined;
  /** Addresses to which no reply may be sent, `source` itself among them. */
  forgedReplyAddresses(source: string): readonly string[];
  /** A well-formed reply address without a consumer. */
  readonly deserted: string;
  /** Transport options by which the broker soon removes a disconnected consumer. */
  readonly impatient: CommonTransportOptions;
  /** Transport options by which the broker delivers one message at a time. */
  readonly oneAtATime: CommonTransportOptions;
  /** Transport options by which a message is dead-lettered after so many requeues. */
  withDeliveryLimit(deliveryLimit: number): CommonTransportOptions;
  /** Transport options that enable priorities. */
  readonly withPriority: CommonTransportOptions;
  /** The message properties that the broker stores. */
  propertiesOf(context: StorkContext): { appId: unknown; persistent: unknown };
  /** False if the driver refuses `onUnhandled: { redeliverMs, times }`. @defaultValue true */
  readonly sendsBackUnhandled?: boolean;
  /** True if the broker is left out on purpose: every test counts as skipped. */
  readonly skip?: boolean;
  open(): Promise<void>;
  close(): Promise<void>;
}
