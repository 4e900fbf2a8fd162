import type { MessageProperties, Options } from 'amqplib';
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readDeadLetter } from '../../../../lib/core/dead-letter/admin/dead-letter-record.js';
import { replayHeaders } from '../../../../lib/core/dead-letter/admin/dead-letter-operations.js';
import { buildDeadLetter, invalid } from '../../../../lib/core/dead-letter/dead-lettering.js';
import { copyHeaders, headerNames, type HeaderValue } from '../../../../lib/core/message/headers.js';
import { readDeliveryMetadata } from '../../../../lib/core/message/delivery-metadata.js';
import { noReply, type InboundMessage } from '../../../../lib/core/port/message.js';
import { readQueueDeadLetter } from '../../../../lib/driver-kit/queue/broker-dead-letter.js';
import { isBrokerOwned } from '../../../../lib/driver-kit/queue/queue-message.js';
import { tolerateUndecodableHeaders } from '../../../../lib/rabbitmq/connection/undecodable-headers.js';
import { fitHeaders } from '../../../../lib/rabbitmq/publish/header-budget.js';
import {
  inboundMessage,
  minimalProperties,
  movedOptions,
  republishOptions,
} from '../../../../lib/rabbitmq/publish/messages.js';
import {
  float,
  header,
  integer,
  nested,
  sized,
  value,
  type RawProperties,
} from '../../../support/amqp-bytes.js';
import { decodeMessage, encodedHeaderBytes, published } from '../../../support/amqp-frames.js';
import { hostileMessages } from '../../../support/hostile-messages.js';

const maxBytes = 60 * 1024;
/** Far below the depth at which amqplib's encoder overflows the stack. */
const maxDepth = 500;

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((given) => Buffer.from(given));
/** Texts and names: ASCII, other characters, and bytes that are no text. */
const anyText = (maxLength: number) =>
  fc.oneof(
    fc.string({ maxLength: Math.floor(maxLength / 4), unit: 'binary' }).map((text) => Buffer.from(text)),
    bytes(maxLength),
  );
const bits = (size: number) => fc.bigInt({ min: 0n, max: 2n ** BigInt(size) - 1n });
const long = fc.nat({ max: 65_000 }).map((length) => Buffer.alloc(length, 'x'));

/** A header value of every type of RabbitMQ, as bytes. RabbitMQ itself refuses infinity and NaN. */
const { field } = fc.letrec<{ field: Buffer; entry: Buffer }>((tie) => ({
  field: fc.oneof(
    { maxDepth: 4 },
    fc.oneof(
      fc.constant(value('V')),
      fc.boolean().map((given) => value('t', given ? '\x01' : '\x00')),
      bits(8).map((given) => integer('b', given)),
      bits(8).map((given) => integer('B', given)),
      bits(16).map((given) => integer('s', given)),
      bits(16).map((given) => integer('u', given)),
      bits(32).map((given) => integer('I', given)),
      bits(32).map((given) => integer('i', given)),
      bits(64).map((given) => integer('l', given)),
      bits(64).map((given) => integer('T', given)),
      fc.double({ noDefaultInfinity: true, noNaN: true }).map((given) => float('d', given)),
      fc.float({ noDefaultInfinity: true, noNaN: true }).map((given) => float('f', given)),
      fc.tuple(bits(8), bits(32)).map(([places, digits]) => {
        return value('D', integer('B', places).subarray(1), integer('i', digits).subarray(1));
      }),
      anyText(300).map((text) => sized('S', text)),
      bytes(300).map((given) => sized('x', given)),
      long.map((text) => sized('S', text)),
    ),
    fc.array(tie('field')).map((items) => sized('A', ...items)),
    fc.array(tie('entry')).map((entries) => sized('F', ...entries)),
    // What amqplib takes for a type, or for a prototype.
    fc
      .tuple(fc.constantFrom('double', 'byte', 'timestamp', 'decimal', 'string', 'object', '?'), tie('field'))
      .map(([type, given]) => sized('F', header('!', sized('S', type)), header('value', given))),
    tie('field').map((given) => sized('F', header('__proto__', given))),
  ),
  entry: fc.tuple(anyText(255), tie('field')).map(([name, given]) => header(name, given)),
}));

/** Rare ones, each large: deep nesting, and more than amqplib decodes. */
const extreme = fc.oneof(
  fc
    .tuple(fc.constantFrom('A' as const, 'F' as const), fc.integer({ min: 400, max: 9_000 }))
    .map(([tag, depth]) => nested(tag, depth)),
  bits(64).map((given) => integer('L', given)),
);

const name = fc.oneof(
  { weight: 4, arbitrary: anyText(255) },
  { weight: 2, arbitrary: fc.constantFrom(...Object.values(headerNames)) },
  {
    weight: 1,
    arbitrary: fc.constantFrom('stork-', 'stork-x', 'x-death', 'x-delivery-count', 'CC', 'BCC', '!'),
  },
);
const headers = fc
  .array(
    fc
      .tuple(name, fc.oneof({ weight: 60, arbitrary: field }, { weight: 1, arbitrary: extreme }))
      .map(([given, encoded]) => header(given, encoded)),
    { maxLength: 12 },
  )
  .map((entries) => Buffer.concat(entries))
  .filter((encoded) => encoded.length < 128_000);
const optional = <T>(given: fc.Arbitrary<T>) => fc.option(given, { nil: undefined, freq: 3 });
const properties = fc.record({
  contentType: optional(anyText(255)),
  contentEncoding: optional(anyText(255)),
  headers: optional(headers),
  deliveryMode: optional(fc.nat({ max: 255 })),
  priority: optional(fc.nat({ max: 255 })),
  correlationId: optional(anyText(255)),
  replyTo: optional(anyText(255)),
  expiration: optional(anyText(255)),
  messageId: optional(anyText(255)),
  timestamp: optional(bits(64)),
  type: optional(anyText(255)),
  userId: optional(anyText(255)),
  appId: optional(anyText(255)),
}) as fc.Arbitrary<RawProperties>;

/** The parts of a value, with their depth. Not recursive. */
function partsOf(given: unknown): readonly { readonly part: unknown; readonly depth: number }[] {
  const parts = [{ part: given, depth: 0 }];
  for (const { part, depth } of parts) {
    if (typeof part !== 'object' || part === null || ArrayBuffer.isView(part)) continue;
    for (const inner of Object.values(part) as unknown[]) parts.push({ part: inner, depth: depth + 1 });
  }
  return parts;
}

const depthOf = (given: unknown): number => Math.max(...partsOf(given).map(({ depth }) => depth));

/** No number that RabbitMQ cannot read. */
function expectFinite(given: unknown): void {
  const numbers = partsOf(given).flatMap(({ part }) => (typeof part === 'number' ? [part] : []));
  expect(numbers.every(Number.isFinite)).toBe(true);
}

/** A header alone, as amqplib brings it back; undefined if it cannot encode it, or into another value. */
function alone(header: string, given: HeaderValue): { readonly bytes: number } | undefined {
  if (depthOf(given) >= maxDepth) return undefined;
  try {
    const back = published({ headers: { [header]: given } }).headers as Record<string, unknown>;
    expectFinite(back[header]);
    expect(back[header]).toEqual(given);
    return { bytes: encodedHeaderBytes(header, given) };
  } catch {
    return undefined;
  }
}

/** Every copy of a message, with the headers that it was given. */
function copiesOf(message: ReturnType<typeof decodeMessage>, inbound: InboundMessage) {
  const cause = {
    failure: invalid('no'),
    handlerId: 'A.b',
    attempt: 4,
    firstFailedAt: 1,
    failedAt: 2,
    subscription: 's',
  };
  const deadLetter = buildDeadLetter(inbound, { ...cause });
  const retry = { ...copyHeaders(inbound.headers), 'stork-attempt': '2', 'stork-handler': 'A.b' };
  const replay = replayHeaders(readQueueDeadLetter(inbound));
  return [
    { given: deadLetter.headers, options: republishOptions(message, deadLetter) },
    { given: retry, options: republishOptions(message, { to: 'redelivery', headers: retry }) },
    { given: replay, options: republishOptions(message, { to: 'replay', headers: replay }) },
  ];
}

const texts = ['contentType', 'contentEncoding', 'correlationId', 'messageId', 'type', 'appId'] as const;

function expectProperties(copy: MessageProperties, original: MessageProperties): void {
  for (const property of texts) {
    const text = original[property] as string | undefined;
    const isShort = text !== undefined && Buffer.byteLength(text) <= 255;
    expect(copy[property]).toBe(isShort ? text : undefined);
  }
  expect(copy.priority).toBe(original.priority);
}

/** Everything that fits is kept, and of the rest the shortest. */
function expectHeaders(options: Options.Publish, given: Readonly<Record<string, HeaderValue>>): void {
  const kept = published(options).headers as Record<string, HeaderValue>;
  const keptBytes = Object.entries(options.headers as object).reduce(
    (sum, [key, held]) => sum + encodedHeaderBytes(key, held),
    0,
  );
  expect(keptBytes).toBeLessThanOrEqual(maxBytes);
  for (const [key, held] of Object.entries(given)) {
    if (held === undefined || isBrokerOwned(key)) continue;
    const encoded = alone(key, held);
    if (encoded === undefined) continue;
    const isOwn = typeof held === 'string' && (Object.values(headerNames) as string[]).includes(key);
    if (isOwn) expect(kept[key]).toBeTypeOf('string');
    if (key in kept) {
      if (!isOwn || encoded.bytes < 1_000) expect(kept[key]).toEqual(held);
    } else expect(keptBytes + encoded.bytes).toBeGreaterThan(maxBytes);
  }
}

function expectCopies(given: RawProperties): void {
  const message = decodeMessage(given, Buffer.from('body'), tolerateUndecodableHeaders);
  const inbound = inboundMessage(message, 'queue', 'stork-key');
  // Neither throws.
  void readDeliveryMetadata(inbound, { parseReplyAddress: () => noReply });
  expect(readDeadLetter(readQueueDeadLetter(inbound)).body).toEqual(message.content);
  for (const { given: wanted, options } of copiesOf(message, inbound)) {
    const copy = published(options);
    expectFinite(copy.headers);
    expectProperties(copy, message.properties);
    expectHeaders(options, wanted);
  }
  expectFinite(published(movedOptions(message)).headers);
  const minimal = published(minimalProperties({ to: 'dead-letter', headers: inbound.headers }));
  expect(Object.values(minimal.headers as object).every((text) => typeof text === 'string')).toBe(true);
}

describe('copies of a message', () => {
  it('can be encoded and keep what can be kept, whatever the bytes of the message', () => {
    // fast-check prints the seed of a failure.
    fc.assert(fc.property(properties, expectCopies), { numRuns: 400, endOnFailure: true });
  });

  it.each(hostileMessages)('can be encoded and keep what can be kept: $name', ({ properties: given }) => {
    expectCopies({
      type: 'job',
      contentType: 'application/json',
      correlationId: 'c',
      replyTo: 'r',
      ...given,
    });
  });

  it('are as long as amqplib makes them', () => {
    const exactly = (length: number) => ({
      headers: Buffer.concat([header('a', sized('S', 'x'.repeat(length))), header('b', integer('b', 1))]),
    });
    const overhead = encodedHeaderBytes('a', '') + encodedHeaderBytes('b', 1);
    const fitted = (length: number) =>
      Object.keys(
        fitHeaders(
          decodeMessage(exactly(length), Buffer.alloc(0)).properties.headers as Record<string, HeaderValue>,
        ),
      );
    expect(fitted(maxBytes - overhead)).toEqual(['a', 'b']);
    expect(fitted(maxBytes - overhead + 1)).toEqual(['b']);
  });

  it('keep the beginning of stork headers that are too long, each within its own bound', () => {
    const long = Object.fromEntries(Object.values(headerNames).map((own) => [own, 'ü'.repeat(30_000)]));
    const fitted = fitHeaders({ ...long, 'stork-foreign': 'x'.repeat(59_000), tenant: 'blue' });
    expect(Object.keys(fitted).toSorted()).toEqual([...Object.values(headerNames), 'tenant'].toSorted());
    expect(fitted['stork-error-stack']).toMatch(/^ü{2000,}…$/);
    expect(fitted['stork-key']).toMatch(/^ü{500,}…$/);
    expect(fitted['tenant']).toBe('blue');
  });
});
