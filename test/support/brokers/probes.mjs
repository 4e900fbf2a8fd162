import { connect } from 'node:net';

/**
 * A broker that responded; its version if it reports one.
 * @typedef {{ version: string | undefined }} Answer
 * @typedef {{ host: string, port: number }} Address
 */

/**
 * Sends bytes and hands everything received so far to `read` until that gives an answer. Undefined when none
 * comes.
 * @template T
 * @param {Address} address
 * @param {Buffer} request
 * @param {(received: Buffer) => T | undefined} read
 * @returns {Promise<T | undefined>}
 */
function ask({ host, port }, request, read) {
  return new Promise((resolve) => {
    let received = Buffer.alloc(0);
    const socket = connect({ host, port });
    /** @param {T | undefined} answer */
    const settle = (answer) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(answer);
    };
    const timer = setTimeout(() => settle(undefined), 10_000);
    socket.once('connect', () => socket.write(request));
    socket.once('error', () => settle(undefined));
    socket.once('close', () => settle(undefined));
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk]);
      const answer = read(received);
      if (answer !== undefined) settle(answer);
    });
  });
}

/**
 * RabbitMQ answers the protocol header with connection.start, which names its version.
 * @param {Address} address
 * @returns {Promise<Answer | undefined>}
 */
export function askRabbitMq(address) {
  return ask(address, Buffer.from('AMQP\0\0\x09\x01', 'latin1'), readConnectionStart);
}

/**
 * @param {Buffer} received
 * @returns {Answer | undefined}
 */
export function readConnectionStart(received) {
  if (received.length < 11 || received.length < 8 + received.readUInt32BE(3)) return undefined;
  const isStart = received[0] === 1 && received.readUInt16BE(7) === 10 && received.readUInt16BE(9) === 10;
  if (!isStart) return undefined;
  // A field of the table: name with one byte of length, the letter of its type, four bytes of length, text.
  const at = received.indexOf('\x07versionS', 0, 'latin1');
  if (at < 0) return { version: undefined };
  const from = at + 13;
  return { version: received.toString('latin1', from, from + received.readUInt32BE(at + 9)) };
}

/**
 * Redis answers PING while it is still loading too, with an error; a password that is missing here is no
 * matter.
 * @param {Address} address
 * @returns {Promise<Answer | undefined>}
 */
export function askRedis(address) {
  return ask(address, Buffer.from('PING\r\nINFO server\r\n'), readPong);
}

/**
 * @param {Buffer} received
 * @returns {Answer | undefined}
 */
export function readPong(received) {
  const text = received.toString('latin1');
  if (text.startsWith('-NOAUTH')) return { version: undefined };
  if (!text.startsWith('+PONG\r\n')) return undefined;
  const version = /redis_version:(\S+)\r\n/.exec(text)?.[1];
  const isRefused = text.startsWith('+PONG\r\n-');
  return version || isRefused ? { version } : undefined;
}

/**
 * Kafka opens its port before it may be used: it is ready when its own metadata names a broker.
 * @param {Address} address
 * @param {readonly number[]} [nodes] Those that it must name.
 * @returns {Promise<Answer | undefined>}
 */
export async function askKafka(address, nodes = []) {
  const answer = await ask(address, kafkaRequest(18, 0, Buffer.alloc(0)), readApiVersions);
  if (!answer) return undefined;
  const noTopics = Buffer.alloc(4);
  const named = await ask(address, kafkaRequest(3, 1, noTopics), readNodes);
  const isReady = named && named.length > 0 && nodes.every((node) => named.includes(node));
  return isReady ? answer : undefined;
}

/**
 * @param {number} key
 * @param {number} version
 * @param {Buffer} body
 */
function kafkaRequest(key, version, body) {
  const header = Buffer.alloc(14);
  header.writeInt32BE(10 + body.length, 0);
  header.writeInt16BE(key, 4);
  header.writeInt16BE(version, 6);
  header.writeInt32BE(1, 8);
  header.writeInt16BE(-1, 12);
  return Buffer.concat([header, body]);
}

/**
 * The broker reports no version, but 4.0 removed the oldest versions of Fetch, so the major version can be
 * inferred.
 * @param {Buffer} received
 * @returns {Answer | undefined}
 */
export function readApiVersions(received) {
  if (received.length < 14 || received.length < 4 + received.readInt32BE(0)) return undefined;
  if (received.readInt16BE(8) !== 0) return undefined;
  const fetch = 1;
  for (let i = 0; i < received.readInt32BE(10); i++) {
    const at = 14 + i * 6;
    if (received.readInt16BE(at) === fetch) return { version: received.readInt16BE(at + 2) >= 4 ? '4' : '3' };
  }
  return { version: undefined };
}

/**
 * The ids of the nodes that a metadata response (version 1) names.
 * @param {Buffer} received
 * @returns {number[] | undefined}
 */
export function readNodes(received) {
  if (received.length < 12 || received.length < 4 + received.readInt32BE(0)) return undefined;
  const ids = [];
  for (let left = received.readInt32BE(8), at = 12; left > 0; left--) {
    ids.push(received.readInt32BE(at));
    // Host, port and rack follow; a rack that there is none of has the length -1.
    const rack = at + 6 + received.readInt16BE(at + 4) + 4;
    at = rack + 2 + Math.max(0, received.readInt16BE(rack));
  }
  return ids;
}
