const m = 0x5bd1e995;

/**
 * The hash by which Kafka's Java client assigns keys to partitions, so that a key has the same partition
 * here. Unsigned.
 */
export function murmur2(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wholeWords = bytes.length & ~3;
  let hash = 0x9747b28c ^ bytes.length;
  for (let i = 0; i < wholeWords; i += 4) {
    let k = Math.imul(view.getUint32(i, true), m);
    k ^= k >>> 24;
    hash = Math.imul(hash, m) ^ Math.imul(k, m);
  }
  if (wholeWords < bytes.length) {
    for (let i = bytes.length - 1; i >= wholeWords; i--) hash ^= bytes[i]! << ((i - wholeWords) * 8);
    hash = Math.imul(hash, m);
  }
  hash ^= hash >>> 13;
  hash = Math.imul(hash, m);
  return (hash ^ (hash >>> 15)) >>> 0;
}
