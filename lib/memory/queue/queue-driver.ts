import type { ConnectionStateCell } from '../../core/port/connection-state.js';
import { sourceSettingsOf } from '../../driver-kit/source-settings.js';
import type { DeadLetterStore, DeadLetterLocation } from '../../core/port/dead-letter-store.js';
import type {
  DeliverySink,
  Driver,
  ReplyInbox,
  ReplyListener,
  Subscription,
  SubscriptionSpec,
} from '../../core/port/driver.js';
import {
  type ConnectionLostError,
  messageOf,
  NoRouteError,
  PublishRejectedError,
  StorkConfigError,
  type ConfigProblem,
} from '../../core/runtime/errors.js';
import { copyHeaders, headerNames } from '../../core/message/headers.js';
import type {
  InboundMessage,
  OutboundMessage,
  ReplyAddress,
  OutboundReply,
  ReplyTarget,
} from '../../core/port/message.js';
import {
  destinationName,
  queueAddress,
  replyTarget,
  type QueueAddress,
} from '../../driver-kit/queue/addressing.js';
import { describeAddress } from '../../driver-kit/queue/describe-address.js';
import { queueCapabilities } from '../../driver-kit/queue/queue-capabilities.js';
import {
  bindingKeys,
  deadLetterDeliveryLimit,
  deadLetterQueue,
  defaultDeliveryLimit,
  isDeadLetterQueue,
  retryQueueDelays,
} from '../../driver-kit/queue/queue-topology.js';
import { validateQueueSubscription } from '../../driver-kit/queue/validate-subscription.js';
import type { DriverEnvironment } from '../../nest/bootstrap/transport-definition.js';
import { BrokerError } from '../broker/broker-error.js';
import type { MemoryBroker, PublishOutcome } from '../broker/memory-broker.js';
import type { QueueSettings } from '../broker/queues/queue-settings.js';
import { MemoryConnection } from '../connection.js';
import { declareRetryQueue, inboundReply, outboundReply, rawOf, type Publishable } from './queue-messages.js';
import type { MemoryOptions } from '../options.js';
import { QueueDeadLetters } from './queue-dead-letters.js';
import { QueueSubscription } from './queue-subscription.js';

const deadLetterSettings: QueueSettings = { deliveryLimit: deadLetterDeliveryLimit };

/**
 * The driver of `memory({ mode: 'queue' })`: one queue with its dead letter queue, bound to the exchange
 * if given.
 */
export class QueueDriver implements Driver {
  readonly capabilities = queueCapabilities;
  readonly consumerName: string | undefined;
  readonly #broker: MemoryBroker;
  readonly #options: MemoryOptions;
  readonly #name: string;
  readonly #connection: MemoryConnection;
  readonly #keyHeader: string;
  #subscription: QueueSubscription | undefined;
  #inbox: { readonly address: string; close(): void } | undefined;
  #replies: ReplyListener | undefined;

  constructor(broker: MemoryBroker, options: MemoryOptions, { name }: DriverEnvironment) {
    this.#broker = broker;
    this.#options = options;
    this.consumerName = options.queue;
    this.#name = name;
    this.#connection = new MemoryConnection(broker, name, (error) => this.#reopen(error));
    this.#keyHeader = options.keyHeader ?? headerNames.key;
  }

  validate(spec: SubscriptionSpec | undefined): readonly ConfigProblem[] {
    if (spec === undefined) return [];
    return validateQueueSubscription(spec, this.#options, this.#name);
  }

  get state(): ConnectionStateCell {
    return this.#connection.state;
  }

  async connect(): Promise<void> {
    this.#connection.open();
  }

  async declare(spec: SubscriptionSpec): Promise<void> {
    try {
      this.#declare(spec);
    } catch (error) {
      throw new StorkConfigError(messageOf(error), { cause: error });
    }
  }

  async subscribe(spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription> {
    this.#subscription = new QueueSubscription({
      broker: this.#broker,
      queue: this.#options.queue!,
      keyHeader: this.#keyHeader,
      prefetch: this.#options.prefetch ?? spec.concurrency * 2,
      settings: sourceSettingsOf(spec.patterns),
      sink,
      declare: () => this.#declare(spec),
    });
    this.#subscription.open();
    return this.#subscription;
  }

  destinationOf(message: Pick<OutboundMessage, 'pattern' | 'to'>): string {
    return destinationName(queueAddress(message, this.#options));
  }

  async publish(message: OutboundMessage): Promise<void> {
    this.#connection.assertOpen();
    const to = queueAddress(message, this.#options);
    const headers = copyHeaders(message.headers);
    if (message.key !== undefined) headers[this.#keyHeader] = message.key;
    if (this.#options.exchange?.type === 'headers') headers[headerNames.pattern] = message.pattern;
    const properties = {
      contentType: message.contentType,
      type: message.pattern,
      messageId: message.messageId,
      correlationId: message.correlationId,
      replyTo: message.replyTo as string | undefined,
      appId: message.appId,
      timestamp: message.timestamp,
      expirationMs: message.expiresInMs,
      priority: message.priority,
      persistent: message.persistent ?? true,
    };
    const body = message.body ?? Buffer.alloc(0);
    const delay = message.delayMs === undefined ? {} : { delayMs: message.delayMs };
    const outcome = this.#publish(to, { body, headers, properties }, delay);
    const where = describeAddress(to);
    if (outcome === 'unrouted') throw new NoRouteError(`no queue is bound for the message to ${where}`);
    if (outcome === 'rejected')
      throw new PublishRejectedError(`the broker rejected the message to ${where}: a queue is full`);
  }

  /** Exact: in memory a retry queue for every delay costs nothing. */
  roundDelay(delayMs: number): number {
    return delayMs;
  }

  async openReplies(listener: ReplyListener): Promise<ReplyInbox> {
    this.#connection.assertOpen();
    this.#replies = listener;
    this.#inbox = this.#broker.openInbox((message) => listener.onReply(inboundReply(message)));
    return { address: this.#inbox.address };
  }

  parseReplyAddress(message: InboundMessage): ReplyTarget {
    return replyTarget(rawOf(message).properties.replyTo, this.#options.replyQueues);
  }

  async reply(to: ReplyAddress, reply: OutboundReply): Promise<'confirmed' | 'undeliverable'> {
    const address = to as string;
    const message = outboundReply(reply);
    if (this.#broker.deliverToInbox(address, { ...message, exchange: '', routingKey: address }))
      return 'confirmed';
    return this.#broker.publish('', address, message) === 'routed' ? 'confirmed' : 'undeliverable';
  }

  deadLetterName(source: string): string {
    return deadLetterQueue(source);
  }

  async deadLetters({ source = this.#options.queue, from }: DeadLetterLocation): Promise<DeadLetterStore> {
    this.#connection.assertOpen();
    return new QueueDeadLetters(this.#broker, { source, from }, this.#keyHeader);
  }

  unwrap(): MemoryBroker | undefined {
    return this.#connection.broker;
  }

  async close(): Promise<void> {
    await this.#subscription?.close();
    this.#inbox?.close();
    this.#connection.close();
  }

  /** Requeues unsettled messages, fails pending requests and consumes with the same subscription. */
  #reopen(error: ConnectionLostError): void {
    this.#subscription?.reopen();
    this.#replies?.onLost(error);
  }

  #publish(to: QueueAddress, content: Publishable, delay: { delayMs?: number }): PublishOutcome {
    try {
      return this.#broker.publish(to.exchange, to.routingKey, content, delay);
    } catch (error) {
      if (!(error instanceof BrokerError && error.code === 404)) throw error;
      throw new NoRouteError(`there is no exchange "${to.exchange}"`, { cause: error });
    }
  }

  #declare(spec: SubscriptionSpec): void {
    const { exchange } = this.#options;
    const queue = this.#options.queue!;
    for (const deadLetters of [deadLetterQueue(queue), ...spec.deadLetterTargets])
      this.#broker.declareQueue(deadLetters, deadLetterSettings);
    for (const delayMs of retryQueueDelays(spec)) declareRetryQueue(this.#broker, queue, delayMs);
    this.#broker.declareQueue(
      queue,
      isDeadLetterQueue(queue) ? deadLetterSettings : this.#sourceSettings(queue),
    );
    if (exchange === undefined) return;
    this.#broker.declareExchange(exchange.name, exchange.type);
    for (const key of bindingKeys(exchange.type, spec.patterns)) {
      const args = exchange.type === 'headers' ? { 'x-match': 'all', [headerNames.pattern]: key } : undefined;
      this.#broker.bind(exchange.name, queue, key, args);
    }
  }

  #sourceSettings(queue: string): QueueSettings {
    return {
      deadLetterExchange: '',
      deadLetterRoutingKey: deadLetterQueue(queue),
      deliveryLimit: this.#options.deliveryLimit ?? defaultDeliveryLimit,
      maxPriority: this.#options.maxPriority,
    };
  }
}
