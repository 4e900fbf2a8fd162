import { describe, expect, it } from 'vitest';
import { MemoryBroker } from '../../../../lib/memory/broker/memory-broker.js';
import { content, message, newBroker, read, settle, texts } from '../harness.js';

describe('declaring', () => {
  it('a queue again with the same options gives the same queue', () => {
    const { broker } = newBroker();
    const options = { deliveryLimit: 3, deadLetterExchange: '' };
    const queue = broker.declareQueue('q', options);
    expect(broker.declareQueue('q', { ...options, name: 'q', maxLength: undefined })).toBe(queue);
    expect(broker.queue('q')).toBe(queue);
    expect(broker.queueNames).toEqual(['q']);
  });

  it('a queue with another option names queue, option and both values', () => {
    const { broker } = newBroker();
    broker.declareQueue('orders', { deliveryLimit: 3, deadLetterRoutingKey: 'dead' });
    const again = (settings: object) => () => broker.declareQueue('orders', settings);
    expect(again({ deliveryLimit: 4, deadLetterRoutingKey: 'dead' })).toThrow(
      'Queue "orders" exists with deliveryLimit 3, declared now with 4 (406)',
    );
    expect(again({ deliveryLimit: 3 })).toThrow('deadLetterRoutingKey "dead", declared now with none');
  });

  it('a queue without a name is server-named', () => {
    const broker = new MemoryBroker({ clock: newBroker().clock, random: () => 0.5 });
    const one = broker.declareQueue('');
    const two = broker.declareQueue('');
    expect(one.name).toMatch(/^amq\.gen-[\w-]{22}$/);
    expect(two).not.toBe(one);
    expect(broker.queue(one.name)).toBe(one);
  });

  it('an exchange again with another type fails', () => {
    const { broker } = newBroker();
    broker.declareExchange('e', 'topic');
    broker.declareExchange('e', 'topic');
    expect(() => broker.declareExchange('e', 'fanout')).toThrow(/"e" exists with type topic/);
    expect(() => broker.declareExchange('', 'direct')).toThrow(/403/);
  });

  it('a binding of a missing queue or exchange fails', () => {
    const { broker } = newBroker();
    broker.declareQueue('q');
    broker.declareExchange('e', 'direct');
    expect(() => broker.bind('none', 'q', '')).toThrow('No exchange "none" (404)');
    expect(() => broker.bind('e', 'none', '')).toThrow('No queue "none" (404)');
    expect(() => broker.unbind('e', 'none', '')).toThrow(/404/);
    expect(() => broker.bind('', 'q', 'q')).toThrow(/403/);
  });
});

describe('publishing', () => {
  it('to the default exchange goes to the queue of that name', () => {
    const { broker } = newBroker();
    const queue = broker.declareQueue('q');
    expect(broker.publish('', 'q', content('a'))).toBe('routed');
    expect(broker.publish('', 'other', content('b'))).toBe('unrouted');
    expect(texts(queue.peek())).toEqual(['a']);
  });

  it('to an unknown exchange throws, also with a delay', () => {
    const { broker } = newBroker();
    expect(() => broker.publish('none', 'k', content('a'))).toThrow('No exchange "none" (404)');
    expect(() => broker.publish('none', 'k', content('a'), { delayMs: 5 })).toThrow(/404/);
  });

  it('stores one message in each queue, with the same body and copied headers', () => {
    const { broker } = newBroker();
    broker.declareExchange('e', 'fanout');
    const queues = ['q1', 'q2'].map((name) => broker.declareQueue(name));
    for (const key of ['a', 'b']) for (const { name } of queues) broker.bind('e', name, key);
    const body = Buffer.from('x');
    const headers: Record<string, string> = { h: '1' };
    expect(broker.publish('e', 'k', { body, headers, properties: { priority: 2 } })).toBe('routed');
    headers['h'] = 'changed';
    const [one, two] = queues.map((queue) => queue.peek());
    expect([one!.length, two!.length]).toEqual([1, 1]);
    expect(one![0]).not.toBe(two![0]);
    expect(one![0]!.body).toBe(body);
    expect(one![0]).toMatchObject({ exchange: 'e', routingKey: 'k', properties: { priority: 2 } });
    expect(one![0]!.headers['h']).toBe('1');
    expect(Object.getPrototypeOf(one![0]!.headers)).toBeNull();
  });

  it('is rejected when one of the queues is full, and stored in the others', () => {
    const { broker } = newBroker();
    broker.declareExchange('e', 'fanout');
    broker.declareQueue('full', { maxLength: 0, overflow: 'reject-publish' });
    const open = broker.declareQueue('open');
    for (const name of ['full', 'open']) broker.bind('e', name, '');
    expect(broker.publish('e', '', content('a'))).toBe('rejected');
    expect(open.ready).toBe(1);
  });

  it('with a delay resolves at once and routes later', async () => {
    const { broker, clock } = newBroker();
    const queue = broker.declareQueue('q');
    expect(broker.publish('', 'q', content('late'), { delayMs: 100 })).toBe('routed');
    expect(broker.publish('', 'q', content('now'), { delayMs: 0 })).toBe('routed');
    await clock.advance(99);
    expect(texts(queue.peek())).toEqual(['now']);
    await clock.advance(1);
    expect(texts(queue.peek())).toEqual(['now', 'late']);
    expect(clock.pendingTimers).toBe(0);
  });
});

describe('deleting a queue', () => {
  it('removes its bindings, so that a new queue of that name starts without', () => {
    const { broker } = newBroker();
    broker.declareExchange('e', 'fanout');
    broker.declareQueue('q');
    broker.bind('e', 'q', '');
    broker.deleteQueue('q');
    broker.deleteQueue('q');
    expect(broker.queue('q')).toBeUndefined();
    expect(broker.publish('e', '', content('a'))).toBe('unrouted');
    broker.declareQueue('q', { maxLength: 1 });
    expect(broker.publish('e', '', content('a'))).toBe('unrouted');
  });

  it('lets a consumer declare it again when it is cancelled', async () => {
    const { broker } = newBroker();
    const queue = broker.declareQueue('q');
    queue.consume({ prefetch: 1, onDelivery: () => {}, onCancelled: () => void broker.declareQueue('q') });
    broker.deleteQueue('q');
    expect(broker.queue('q')).toBeDefined();
    expect(broker.queue('q')).not.toBe(queue);
  });
});

describe('reply inboxes', () => {
  it('get messages to their address, after the call stack of the sender', async () => {
    const { broker } = newBroker();
    const received: string[] = [];
    const inbox = broker.openInbox(({ body }) => void received.push(body.toString()));
    expect(inbox.address).toMatch(/^amq\.rabbitmq\.reply-to\.[\w-]{22}$/);
    expect(broker.deliverToInbox(inbox.address, message('a'))).toBe(true);
    expect(broker.publish('', inbox.address, content('b'))).toBe('routed');
    expect(received).toEqual([]);
    await Promise.resolve();
    expect(received).toEqual(['a', 'b']);
  });

  it('get nothing once closed, not even a message that is being delivered', async () => {
    const { broker } = newBroker();
    const received: string[] = [];
    const inbox = broker.openInbox(({ body }) => void received.push(body.toString()));
    broker.deliverToInbox(inbox.address, message('a'));
    inbox.close();
    expect(broker.deliverToInbox(inbox.address, message('b'))).toBe(false);
    expect(broker.publish('', inbox.address, content('c'))).toBe('unrouted');
    await settle();
    expect(received).toEqual([]);
  });

  it('have unique addresses', () => {
    const broker = new MemoryBroker({ random: () => 0.1 });
    expect(broker.openInbox(() => {}).address).not.toBe(broker.openInbox(() => {}).address);
  });
});

describe('topics', () => {
  it('are created once, grow and never shrink', () => {
    const { broker } = newBroker();
    const topic = broker.createTopic('t', { partitions: 2 });
    expect(broker.createTopic('t', { partitions: 3 })).toBe(topic);
    expect(topic.partitionCount).toBe(3);
    broker.createTopic('t', { partitions: 1 });
    expect(topic.partitionCount).toBe(3);
    expect(broker.topicNames).toEqual(['t']);
    broker.deleteTopic('t');
    expect(broker.topic('t')).toBeUndefined();
  });

  it('are announced to listeners, each new one once', async () => {
    const { broker } = newBroker();
    const heard: string[] = [];
    const stop = broker.onTopic((name) => void heard.push(name));
    broker.createTopic('a', { partitions: 1 });
    broker.createTopic('a', { partitions: 2 });
    expect(heard).toEqual([]);
    await settle();
    broker.createTopic('b', { partitions: 1 });
    stop();
    await settle();
    expect(heard).toEqual(['a']);
  });
});

describe('connections', () => {
  it('are notified once that they were dropped, unless they were closed before', () => {
    const { broker } = newBroker();
    const lost: string[] = [];
    const onLost = (): void => {
      lost.push('a');
      broker.connect(() => void lost.push('again'));
    };
    broker.connect(onLost);
    broker.connect(() => void lost.push('b')).close();
    broker.dropConnections();
    expect(lost).toEqual(['a']);
    broker.dropConnections();
    expect(lost).toEqual(['a', 'again']);
  });
});

describe('closing the broker', () => {
  it('leaves no timer, delivers nothing more and refuses new work', async () => {
    const { broker, clock } = newBroker();
    const queue = broker.declareQueue('q', { messageTtlMs: 50, deadLetterExchange: '' });
    const received: string[] = [];
    const inbox = broker.openInbox(() => void received.push('inbox'));
    let cancelled = 0;
    const { deliveries } = read(broker.declareQueue('r'));
    broker.queue('r')!.consume({ prefetch: 1, onDelivery: () => {}, onCancelled: () => (cancelled += 1) });
    broker.publish('', 'q', content('a'));
    broker.publish('', 'r', content('b'));
    broker.publish('', 'q', content('late'), { delayMs: 10 });
    broker.deliverToInbox(inbox.address, message('x'));
    broker.close();
    broker.close();
    expect(clock.pendingTimers).toBe(0);
    await clock.advance(1_000);
    expect([received, deliveries, queue.ready, cancelled]).toEqual([[], [], 0, 1]);
    expect(() => broker.publish('', 'q', content('a'))).toThrow(/closed/);
    expect(() => broker.declareQueue('q')).toThrow(/closed/);
    expect(() => broker.group('g')).toThrow(/closed/);
  });
});
