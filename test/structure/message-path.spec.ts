import 'reflect-metadata';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Controller, Logger, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern } from '@nestjs/microservices';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { StorkModule, storkMicroservice, type RetryOptions } from 'nestjs-stork';
import { readReplyKind, noReply, type InboundMessage } from '../../lib/core/port/message.js';
import { ConnectionStateCell } from '../../lib/core/port/connection-state.js';
import { Delivery, SourceSession, type RepublishedMessage } from '../../lib/core/port/delivery.js';
import type { DeliverySource } from '../../lib/core/port/delivery.js';
import type { DeliverySink, Driver, Subscription, SubscriptionSpec } from '../../lib/core/port/driver.js';
import { queueCapabilities } from '../../lib/driver-kit/queue/queue-capabilities.js';
import { CallCounter, type Calls } from './call-counter.js';
import { textOf } from './source-files.js';

// A message passes few files, and lib/README.md names them in the order of the message.

const maxFilesHandled = 16;
const maxFilesFailing = 24;

const notUsed = (): Promise<never> => Promise.reject(new Error('not used here'));

/** Delivers one message at a time, and counts calls from its delivery to its acknowledgement. */
class CountingDriver implements Driver, DeliverySource {
  readonly capabilities = queueCapabilities;
  readonly consumerName = 'counting';
  readonly state = new ConnectionStateCell();
  readonly republished: RepublishedMessage['to'][] = [];
  readonly #counter: CallCounter;
  readonly #session = new SourceSession();
  #sink: DeliverySink | undefined;
  #tag = 0;
  #onAck: () => void = () => {};

  constructor(counter: CallCounter) {
    this.#counter = counter;
  }

  deliver(): Promise<void> {
    const message: InboundMessage = {
      body: Buffer.from('{"id":1}'),
      headers: {},
      patterns: ['order.created'],
      contentType: 'application/json',
      messageId: `m-${++this.#tag}`,
      correlationId: undefined,
      key: undefined,
      timestamp: undefined,
      origin: { source: 'counting' },
      raw: undefined,
    };
    const fields = { message, session: this.#session, orderingKey: undefined, redelivered: false };
    const delivery = new Delivery({ ...fields, tag: this.#tag, source: this });
    return new Promise((resolve) => {
      this.#onAck = resolve;
      this.#counter.start();
      this.#sink!.deliver(delivery);
    });
  }

  ack(): void {
    this.#counter.stop();
    this.#onAck();
  }

  republish(_delivery: Delivery, { to }: RepublishedMessage): Promise<void> {
    this.republished.push(to);
    return Promise.resolve();
  }

  requeue(): void {
    throw new Error('a message was requeued');
  }

  deadLetterName(source: string): string {
    return `${source}.dlq`;
  }

  validate(): readonly [] {
    return [];
  }
  async connect(): Promise<void> {
    this.state.move({ value: 'ready' });
  }
  async declare(): Promise<void> {}
  async subscribe(_spec: SubscriptionSpec, sink: DeliverySink): Promise<Subscription> {
    this.#sink = sink;
    return { pause() {}, resume() {}, async stop() {}, async close() {} };
  }
  roundDelay = () => undefined;
  parseReplyAddress = () => noReply;
  unwrap(): undefined {}
  async close(): Promise<void> {
    this.state.move({ value: 'closed' });
  }
  readonly ackEarly = notUsed;
  readonly publish = notUsed;
  readonly openReplies = notUsed;
  readonly reply = notUsed;
  readonly deadLetters = notUsed;
}

interface Path {
  readonly calls: Calls;
  readonly handlerCalls: number;
  readonly republished: readonly RepublishedMessage['to'][];
}

/** The second message of an application with one handler; the first one runs what is done only once. */
async function follow(handler: () => void, retry?: RetryOptions): Promise<Path> {
  let handlerCalls = 0;

  @Controller()
  class Orders {
    @EventPattern<string>('order.created')
    created(): void {
      handlerCalls++;
      handler();
    }
  }

  const counter = new CallCounter();
  const driver = new CountingDriver(counter);
  const transport = { common: {}, validate: () => [], createDriver: () => driver };

  @Module({
    imports: [StorkModule.forRoot({ transports: { main: transport }, retry })],
    controllers: [Orders],
  })
  class App {}

  const app = await NestFactory.createMicroservice(App, { ...storkMicroservice(), logger: false });
  try {
    await app.listen();
    await driver.deliver();
    // After its acknowledgement a message awaits only promises, and those settle before the next turn.
    await nextTurn();
    handlerCalls = 0;
    driver.republished.length = 0;
    await driver.deliver();
    return { calls: counter.calls(), handlerCalls, republished: driver.republished };
  } finally {
    await app.close();
    counter.close();
  }
}

/** The files that a list of the section `The path of a message` names, in its order. */
function listed(list: string): readonly string[] {
  const section = textOf('lib/README.md').split('\n## The path of a message\n')[1]?.split('\n## ')[0];
  const items = section
    ?.split(`\n### ${list}\n`)[1]
    ?.split('\n### ')[0]
    ?.match(/^(?:\d+\.|[-*]) .*$/gm);
  return (items ?? []).map((item) => /^\d+\. `([\w./-]+\.ts)`: ./.exec(item)?.[1] ?? `not a file: ${item}`);
}

function filesOf({ calls }: Path): readonly string[] {
  return [...calls.keys()].map((file) => file.slice('lib/'.length)).toSorted();
}

/** Which functions ran, for the error text. */
function functionsOf({ calls }: Path): string {
  const lines = [...calls].map(
    ([file, counts]) => `${file}: ${[...counts].map(([name, count]) => `${name} ×${count}`).join(', ')}`,
  );
  return lines.toSorted().join('\n');
}

let handled: Path;
let failing: Path;

beforeAll(async () => {
  handled = await follow(() => {});
  failing = await follow(
    () => {
      throw new Error('out of stock');
    },
    { maxRetries: 1, delayMs: 0 },
  );
});
afterAll(() => Logger.overrideLogger(true));

describe('a handled message', () => {
  it('is handled once', () => {
    expect(handled).toMatchObject({ handlerCalls: 1, republished: [] });
  });

  it('passes the files that lib/README.md lists', () => {
    expect(filesOf(handled), functionsOf(handled)).toEqual(listed('A handled message').toSorted());
  });

  it(`passes at most ${maxFilesHandled} files`, () => {
    expect(filesOf(handled).length).toBeLessThanOrEqual(maxFilesHandled);
  });
});

describe('a message that fails, is retried and becomes a dead letter', () => {
  it('is attempted twice', () => {
    expect(failing).toMatchObject({ handlerCalls: 2, republished: ['dead-letter'] });
  });

  it('passes, besides the files of a handled one, those that lib/README.md lists', () => {
    const common = listed('A handled message');
    const added = filesOf(failing).filter((file) => !common.includes(file));
    expect(added, functionsOf(failing)).toEqual(listed('What a failure adds').toSorted());
  });

  it(`passes at most ${maxFilesFailing} files`, () => {
    expect(filesOf(failing).length).toBeLessThanOrEqual(maxFilesFailing);
  });
});

describe('the count', () => {
  it('has calls of functions, but neither the reading of constants nor the code of modules', async () => {
    const counter = new CallCounter();
    counter.start();
    readReplyKind(noReply.kind);
    readReplyKind('item');
    await import('../../lib/driver-kit/log/murmur2.js');
    counter.stop();
    expect(counter.calls()).toEqual(new Map([['lib/core/port/message.ts', new Map([['readReplyKind', 2]])]]));
    counter.close();
  });
});
