import { ConnectionStateCell } from '../../core/port/connection-state.js';
import {
  validateTargetsNotConsumed,
  sourceSettingsOf,
  findConflicts,
  validateNoPartitionOrder,
} from '../../driver-kit/source-settings.js';
import type { DeadLetterStore, DeadLetterLocation } from '../../core/port/dead-letter-store.js';
import type {
  Capabilities,
  DeliverySink,
  Driver,
  ReplyInbox,
  ReplyListener,
  Subscription,
  SubscriptionSpec,
} from '../../core/port/driver.js';
import {
  ClientClosedError,
  ConnectionLostError,
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
  queueAddress,
  validateBindable,
  replyTarget,
  type QueueAddress,
} from '../../driver-kit/queue/addressing.js';
import type { DriverEnvironment } from '../../nest/bootstrap/transport-definition.js';
import { BrokerError } from '../broker/broker-error.js';
import type { MemoryBroker } from '../broker/memory-broker.js';
import type { QueueSettings } from '../broker/queues/queue-settings.js';
import { keepAlive } from '../keep-alive.js';
import {
  deadLetterQueue,
  declareRetryQueue,
  isDeadLetterQueue,
  inboundReply,
  outboundReply,
  rawOf,
  type Publishable,
} from './queue-messages.js';
import type { MemoryOptions } from '../options.js';
import { QueueDeadLetters } from './queue-dead-letters.js';
import { QueueSubscription } from './queue-subscription.js';

const defaultDeliveryLimit = 100;
/**
 * Dead letters are looked at and replayed, not worked off: their own limit only ends a reader that crashes without end. A transport may
 * read them like any queue, so whoever declares a queue of such a name declares it so.
 */
const deadLetterSettings: QueueSettings = { deliveryLimit: 1_000_000 };

export const queueCapabilities: Capabilities = {
  messageOptions: new Set(['delayMs', 'expiresInMs', 'priority', 'persistent', 'appId']),
  destinations: new Set(['queue', 'exchange']),
  pausesWithoutRedelivery: false,
  requeue: 'broker',
  exclusiveSource: true,
};

/** The driver of `memory({ mode: 'queue' })`: a queue with its dead letter queue, bound to an exchange if there is one. */
export class QueueDriver implements Driver {
  readonly capabilities = queueCapabilities;
  readonly consumerName: string | undefined;
  readonly state = new ConnectionStateCell();
  readonly #broker: MemoryBroker;
  readonly #options: MemoryOptions;
  readonly #name: string;
  readonly #keyHeader: string;
  #connection: { close(): void } | undefined;
  #stayAlive: (() => void) | undefined;
  #subscription: QueueSubscription | undefined;
  #inbox: { readonly address: string; close(): void } | undefined;
  #replies: ReplyListener | undefined;

  constructor(broker: MemoryBroker, options: MemoryOptions, { name }: DriverEnvironment) {
    this.#broker = broker;
    this.#options = options;
    this.consumerName = options.queue;
    this.#name = name;
    this.#keyHeader = options.keyHeader ?? headerNames.key;
  }

  validate(spec: SubscriptionSpec | undefined): readonly ConfigProblem[] {
    if (spec === undefined) return [];
    return [
      ...validateNoPartitionOrder(spec.patterns, this.#name),
      ...findConflicts(spec.patterns, `the queue "${this.#options.queue}"`),
      ...validateTargetsNotConsumed(
        spec.deadLetterTargets,
        (name) => name === this.#options.queue,
        this.#name,
      ),
      ...validateBindable(spec.patterns, this.#options.exchange, this.#name),
    ];
  }

  async connect(): Promise<void> {
    if (this.state.current.value === 'closed') throw this.#closedError();
    if (this.#connection !== undefined) return;
    this.state.move({ value: 'connecting' });
    this.#connection = this.#broker.connect(() => this.#lost());
    this.#stayAlive ??= keepAlive();
    this.state.move({ value: 'ready' });
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
      consume: sourceSettingsOf(spec.patterns),
      sink,
      declare: () => this.#declare(spec),
    });
    this.#subscription.open();
    return this.#subscription;
  }

  async publish(message: OutboundMessage): Promise<void> {
    this.#assertOpen();
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
    const where =
      to.exchange === ''
        ? `the queue "${to.routingKey}"`
        : `"${to.exchange}" with the key "${to.routingKey}"`;
    if (outcome === 'unrouted') throw new NoRouteError(`no queue takes what was sent to ${where}`);
    if (outcome === 'rejected') throw new PublishRejectedError(`a queue behind ${where} is full`);
  }

  /** A queue for each delay costs nothing here. */
  roundDelay(delayMs: number): number {
    return delayMs;
  }

  async openReplies(listener: ReplyListener): Promise<ReplyInbox> {
    this.#assertOpen();
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

  async deadLetters({ source = this.#options.queue, from }: DeadLetterLocation): Promise<DeadLetterStore> {
    this.#assertOpen();
    return new QueueDeadLetters(this.#broker, { source, from }, this.#keyHeader);
  }

  async close(): Promise<void> {
    await this.#subscription?.close();
    this.#inbox?.close();
    this.#connection?.close();
    this.#stayAlive?.();
    this.state.move({ value: 'closed' });
  }

  /** The connection broke: what was unsettled goes back, pending requests fail, and everything comes back as it was. */
  #lost(): void {
    this.#connection = undefined;
    const error = new ConnectionLostError(
      `${this.#name}: the connection to the in-memory broker was dropped`,
    );
    this.state.move({ value: 'backoff', attempt: 1, delayMs: 0, error });
    this.#subscription?.reopen();
    this.#replies?.onLost(error);
    void this.connect();
  }

  /** To an exchange that does not exist nothing is routed. */
  #publish(to: QueueAddress, content: Publishable, delay: { delayMs?: number }) {
    try {
      return this.#broker.publish(to.exchange, to.routingKey, content, delay);
    } catch (error) {
      if (error instanceof BrokerError && error.code === 404) return 'unrouted';
      throw error;
    }
  }

  #declare(spec: SubscriptionSpec): void {
    const { exchange } = this.#options;
    const queue = this.#options.queue!;
    for (const deadLetters of [deadLetterQueue(queue), ...spec.deadLetterTargets])
      this.#broker.declareQueue(deadLetters, deadLetterSettings);
    for (const delayMs of spec.redeliverDelaysMs) declareRetryQueue(this.#broker, queue, delayMs);
    this.#broker.declareQueue(
      queue,
      isDeadLetterQueue(queue) ? deadLetterSettings : this.#sourceSettings(queue),
    );
    if (exchange === undefined) return;
    this.#broker.declareExchange(exchange.name, exchange.type);
    for (const { text } of spec.patterns) {
      const args =
        exchange.type === 'headers' ? { 'x-match': 'all', [headerNames.pattern]: text } : undefined;
      this.#broker.bind(exchange.name, queue, text, args);
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

  #assertOpen(): void {
    if (this.state.current.value === 'closed') throw this.#closedError();
  }

  #closedError(): ClientClosedError {
    return new ClientClosedError(`the transport ${JSON.stringify(this.#name)} is closed`);
  }
}
