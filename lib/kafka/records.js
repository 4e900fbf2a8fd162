import { copyHeaders, timeText } from '../core/headers.js';
import { inboundRecord } from '../core/log-records.js';
/** A fetched record as core sees it. A key that is not UTF-8 is shown as well as it can be; a copy keeps its bytes. */
export function inboundMessage({ topic, partition }, record, offset, patternHeader) {
  const { key, value, headers, timestamp } = record;
  const sentAt = Number(timestamp);
  return inboundRecord(
    {
      topic,
      partition,
      offset,
      key: key === null ? undefined : key.toString(),
      value,
      headers: headers === undefined ? noHeaders : carriedHeaders(headers),
      timestamp: sentAt,
    },
    patternHeader,
    record,
  );
}
const noHeaders = Object.freeze(copyHeaders(undefined));
/** Headers with names of `Object.prototype`, e.g. `constructor`: the client puts what an object inherits before what was sent. */
export function carriedHeaders(headers) {
  if (!Object.keys(headers).some((name) => name in Object.prototype)) return headers;
  const carried = copyHeaders(headers);
  for (const name of Object.keys(carried)) {
    if (name in Object.prototype) carried[name] = withoutInherited(carried[name]);
  }
  return carried;
}
function withoutInherited([, ...values]) {
  return values.length === 1 ? values[0] : values;
}
/** Headers as Kafka carries them: bytes, and several under one name. */
export function headersToSend(headers) {
  const written = {};
  for (const name of Object.keys(headers)) {
    const value = headers[name];
    if (value === undefined) continue;
    // Defined, not set: a header may be named __proto__.
    Object.defineProperty(written, name, {
      value: Array.isArray(value) ? value.map(bytesOf) : bytesOf(value),
      enumerable: true,
    });
  }
  return written;
}
function bytesOf(value) {
  if (typeof value === 'string' || Buffer.isBuffer(value)) return value;
  if (value === null || value === undefined) return '';
  if (value instanceof Uint8Array) return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof Date) return timeText(value.getTime()) ?? '';
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}
