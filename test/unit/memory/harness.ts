import { setImmediate as nextTurn } from 'node:timers/promises';
import { MemoryBroker } from '../../../lib/memory/broker/memory-broker.js';
import type {
  MemoryQueue,
  QueueConsumer,
  QueueDelivery,
} from '../../../lib/memory/broker/queues/memory-queue.js';
import type { QueueSettings } from '../../../lib/memory/broker/queues/queue-settings.js';
import type { MemoryContent, MemoryMessage, MemoryProperties } from '../../../lib/memory/broker/message.js';
import { VirtualClock } from '../../../lib/memory/virtual-clock.js';

export function newBroker(): { broker: MemoryBroker; clock: VirtualClock } {
  const clock = new VirtualClock();
  return { broker: new MemoryBroker({ clock }), clock };
}

export function content(text: string, properties: MemoryProperties = {}): MemoryContent {
  return { body: Buffer.from(text), headers: {}, properties };
}

export function message(text: string, properties: MemoryProperties = {}): MemoryMessage {
  return { body: Buffer.from(text), headers: {}, properties, exchange: '', routingKey: 'q' };
}

export function texts(messages: readonly MemoryMessage[]): string[] {
  return messages.map(({ body }) => body.toString());
}

/** Waits for all promises that need no timer. */
export async function settle(): Promise<void> {
  await nextTurn();
  await nextTurn();
}

export interface Reader {
  readonly consumer: QueueConsumer;
  readonly deliveries: QueueDelivery[];
  readonly texts: () => string[];
}

/** A consumer that records its deliveries. */
export function read(queue: MemoryQueue, prefetch = 0): Reader {
  const deliveries: QueueDelivery[] = [];
  const consumer = queue.consume({ prefetch, onDelivery: (delivery) => void deliveries.push(delivery) });
  return { consumer, deliveries, texts: () => texts(deliveries.map((delivery) => delivery.message)) };
}

export function newQueue(settings?: QueueSettings): MemoryQueue {
  return newBroker().broker.declareQueue('q', settings);
}

export function fill(queue: MemoryQueue, ...bodies: string[]): void {
  for (const body of bodies) queue.enqueue(message(body));
}

export interface WorkAndDead {
  readonly broker: MemoryBroker;
  readonly clock: VirtualClock;
  readonly work: MemoryQueue;
  readonly dead: MemoryQueue;
  readonly publish: (text: string, expirationMs?: number) => string;
}

/** A queue whose dead letters go to the queue `dead`. */
export function workAndDead(settings: QueueSettings): WorkAndDead {
  const { broker, clock } = newBroker();
  const work = broker.declareQueue('work', {
    deadLetterExchange: '',
    deadLetterRoutingKey: 'dead',
    ...settings,
  });
  const dead = broker.declareQueue('dead');
  const publish = (text: string, expirationMs?: number): string =>
    broker.publish('', 'work', content(text, { expirationMs }));
  return { broker, clock, work, dead, publish };
}
