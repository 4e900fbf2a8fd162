import { emptyHeaders, isBytes, type HeaderValue, type MessageHeaders } from '../../core/message/headers.js';

/** A header value in the form that amqplib encodes, and the bytes that it takes. */
export interface EncodableValue {
  readonly value: HeaderValue;
  readonly bytes: number;
}

/** AMQP has one byte for the length of a name. */
const maxNameBytes = 255;
/** amqplib encodes recursively: its stack overflows at about 2 500 levels. */
const maxDepth = 500;
const tagBytes = 1;
/** The type tag and the length of a text, list or table. */
const sizedBytes = 5;

/**
 * A header of this name, its name included in the bytes. Undefined if amqplib cannot encode it, or would
 * encode a number that RabbitMQ cannot read: it closes the connection on infinity and NaN.
 */
export function encodableHeader(name: string, value: HeaderValue, depth = 0): EncodableValue | undefined {
  const ofName = Buffer.byteLength(name);
  const encodable = ofName > maxNameBytes ? undefined : encodableValue(value, depth);
  return encodable && { value: encodable.value, bytes: 1 + ofName + encodable.bytes };
}

function encodableValue(value: HeaderValue, depth: number): EncodableValue | undefined {
  if (typeof value === 'string') return { value, bytes: sizedBytes + Buffer.byteLength(value) };
  if (typeof value === 'number') return encodableNumber(value);
  if (value === null) return { value, bytes: tagBytes };
  if (typeof value === 'boolean') return { value, bytes: tagBytes + 1 };
  if (typeof value === 'bigint') return encodableValue(String(value), depth);
  if (typeof value !== 'object' || depth === maxDepth) return undefined;
  if (value instanceof Date) return timestamp(value);
  if (isBytes(value)) return encodableBytes(value);
  if (Array.isArray(value)) return encodableList(value as readonly HeaderValue[], depth);
  const table = value as MessageHeaders;
  return Object.hasOwn(table, '!') ? encodableTyped(table) : encodableTable(table, depth);
}

/**
 * amqplib takes a number below -2^63, or a fraction above 2^50, for an integer of 64 bits, unless its type is
 * given.
 */
function encodableNumber(value: number): EncodableValue | undefined {
  if (!Number.isFinite(value)) return undefined;
  const isMistaken = Number.isInteger(value) ? value < -(2 ** 63) : Math.abs(value) >= 2 ** 50;
  if (isMistaken) return encodableTyped({ '!': 'double', value });
  const range = guessedIntegers.find((integers) => isIn(integers, value));
  return { value, bytes: tagBytes + (range?.bytes ?? 8) };
}

function encodableBytes(value: Uint8Array): EncodableValue {
  const buffer = Buffer.isBuffer(value)
    ? value
    : Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  return { value: buffer, bytes: sizedBytes + buffer.length };
}

function timestamp(date: Date): EncodableValue | undefined {
  return encodableTyped({ '!': 'timestamp', value: Math.floor(date.getTime() / 1_000) });
}

function encodableList(list: readonly HeaderValue[], depth: number): EncodableValue | undefined {
  const values: HeaderValue[] = [];
  let bytes = sizedBytes;
  for (const item of list) {
    const encodable = encodableValue(item, depth + 1);
    if (encodable === undefined) return undefined;
    values.push(encodable.value);
    bytes += encodable.bytes;
  }
  return { value: values, bytes };
}

function encodableTable(table: MessageHeaders, depth: number): EncodableValue | undefined {
  const values = emptyHeaders();
  let bytes = sizedBytes;
  for (const [name, entry] of Object.entries(table)) {
    if (entry === undefined) continue;
    const encodable = encodableHeader(name, entry, depth + 1);
    if (encodable === undefined) return undefined;
    values[name] = encodable.value;
    bytes += encodable.bytes;
  }
  return { value: values, bytes };
}

/** amqplib encodes `{ '!': type, value }` as a value of that type, and decodes timestamps and decimals so. */
function encodableTyped(table: MessageHeaders): EncodableValue | undefined {
  const { '!': type, value, ...others } = table;
  const bytes = Object.keys(others).length === 0 ? typedBytes(type, value) : undefined;
  return bytes === undefined ? undefined : { value: { '!': type, value }, bytes: tagBytes + bytes };
}

/** Undefined if the value is not of the type. */
function typedBytes(type: HeaderValue, value: HeaderValue): number | undefined {
  if (type === 'decimal') return isDecimal(value) ? 5 : undefined;
  if (typeof value !== 'number') return undefined;
  if (type === 'double' || type === 'float64') return Number.isFinite(value) ? 8 : undefined;
  if (type === 'float') return Number.isFinite(Math.fround(value)) ? 4 : undefined;
  const range = integerTypes.get(type);
  return range !== undefined && isIn(range, value) ? range.bytes : undefined;
}

function isDecimal(value: HeaderValue): boolean {
  if (typeof value !== 'object' || value === null) return false;
  const { places, digits } = value as MessageHeaders;
  return isIn(unsigned(1), places) && isIn(unsigned(4), digits);
}

/** Integers of some bytes: from the first one, below the one behind the last. */
interface IntegerRange {
  readonly bytes: number;
  readonly from: number;
  readonly below: number;
}

function signed(bytes: number): IntegerRange {
  return { bytes, from: -(2 ** (bytes * 8 - 1)), below: 2 ** (bytes * 8 - 1) };
}

function unsigned(bytes: number): IntegerRange {
  return { bytes, from: 0, below: 2 ** (bytes * 8) };
}

function isIn({ from, below }: IntegerRange, value: HeaderValue): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= from && value < below;
}

/** The types that amqplib takes for a number whose type is not given; a larger integer is a double. */
const guessedIntegers = [signed(1), signed(2), signed(4)];

const integerTypes: ReadonlyMap<HeaderValue, IntegerRange> = new Map<HeaderValue, IntegerRange>([
  ['byte', signed(1)],
  ['int8', signed(1)],
  ['unsignedbyte', unsigned(1)],
  ['uint8', unsigned(1)],
  ['short', signed(2)],
  ['int16', signed(2)],
  ['unsignedshort', unsigned(2)],
  ['uint16', unsigned(2)],
  ['int', signed(4)],
  ['int32', signed(4)],
  ['unsignedint', unsigned(4)],
  ['uint32', unsigned(4)],
  ['long', signed(8)],
  ['int64', signed(8)],
  ['timestamp', unsigned(8)],
]);
