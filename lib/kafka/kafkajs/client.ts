import net from 'node:net';
import tls from 'node:tls';
import kafkajs, { type ISocketFactoryArgs, type Kafka, type KafkaConfig } from 'kafkajs';
import type { StorkLogger } from '../../core/runtime/reporting.js';
import type {
  ConsumerEvents,
  ConsumerSettings,
  KafkaClient,
  KafkaConsumer,
  KafkaProducer,
  KafkaReader,
  KafkaTransactions,
  ProducerSettings,
  ReaderSettings,
  TransactionSettings,
} from '../client/client.js';
import { KafkaJsAdmin } from './admin.js';
import { compressionTypes, fewRetries } from './common.js';
import { KafkaJsConsumer } from './consumer.js';
import { openProducer } from './producer.js';
import { openReader } from './reader.js';
import { openTransactions } from './transactions.js';
import type { CompressionCodec, KafkaSasl } from '../options/options.js';

// Only this folder imports kafkajs (2.2.4). Comments name its behaviour where the code works around it.

export interface KafkaClientSettings {
  readonly brokers: readonly string[];
  readonly clientId: string;
  readonly ssl: boolean | tls.ConnectionOptions;
  readonly sasl: KafkaSasl | undefined;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly compressionCodecs: Readonly<Partial<Record<'snappy' | 'lz4' | 'zstd', CompressionCodec>>>;
  readonly logger: StorkLogger;
}

/** A kafkajs client with the transport's settings, sockets and logger. */
export class KafkaJsClient implements KafkaClient {
  readonly admin: KafkaJsAdmin;
  readonly #kafka: Kafka;
  readonly #sockets = new Set<net.Socket>();
  #isAborted = false;

  constructor(settings: KafkaClientSettings) {
    registerCodecs(settings.compressionCodecs);
    this.#kafka = new kafkajs.Kafka({
      brokers: [...settings.brokers],
      clientId: settings.clientId,
      ...(settings.ssl === false ? {} : { ssl: settings.ssl }),
      ...(settings.sasl === undefined ? {} : { sasl: settings.sasl as NonNullable<KafkaConfig['sasl']> }),
      connectionTimeout: settings.connectTimeoutMs,
      authenticationTimeout: settings.connectTimeoutMs,
      requestTimeout: settings.requestTimeoutMs,
      retry: fewRetries,
      socketFactory: (target) => this.#openSocket(target),
      logCreator: () => logTo(settings.logger),
    });
    this.admin = new KafkaJsAdmin(this.#kafka);
  }

  openProducer(settings: ProducerSettings): Promise<KafkaProducer> {
    return openProducer(this.#kafka, settings);
  }

  openTransactions(settings: TransactionSettings): Promise<KafkaTransactions> {
    return openTransactions(this.#kafka, settings);
  }

  openReader(settings: ReaderSettings): Promise<KafkaReader> {
    return openReader(this.#kafka, settings);
  }

  openConsumer(settings: ConsumerSettings, events: ConsumerEvents): KafkaConsumer {
    return new KafkaJsConsumer(this.#kafka, this.admin, settings, events);
  }

  unwrap(): Kafka {
    return this.#kafka;
  }

  close(): Promise<void> {
    return this.admin.close();
  }

  /**
   * kafkajs reconnects for a request that follows a disconnect, and leaves a socket open that was
   * connecting during the disconnect: the process would not end.
   */
  abort(): void {
    this.#isAborted = true;
    // With an error: kafkajs stops the timers of a connection on its socket's error event.
    for (const socket of this.#sockets) {
      // Records sent without acks are still in the socket, which ends by itself once they are written.
      const isFlushing = socket.writableEnded && socket.writableLength > 0;
      if (!isFlushing) socket.destroy(new Error('the client is closed'));
    }
  }

  #openSocket(target: ISocketFactoryArgs): net.Socket {
    if (this.#isAborted) throw new Error('the client is closed');
    const socket = openSocket(target);
    this.#sockets.add(socket);
    return socket.once('close', () => this.#sockets.delete(socket));
  }
}

/**
 * Opens sockets with TCP_NODELAY: Nagle's algorithm would delay a request until the peer's delayed ACK, up
 * to 40 ms.
 */
function openSocket({ host, port, ssl, onConnect }: ISocketFactoryArgs): net.Socket {
  // Without TLS kafkajs passes false, null or undefined, contrary to its types.
  const secure = ssl as tls.ConnectionOptions | false | null | undefined;
  const serverName = net.isIP(host) === 0 ? { servername: host } : {};
  const socket =
    secure === undefined || secure === null || secure === false
      ? net.connect({ host, port }, onConnect)
      : tls.connect({ host, port, ...serverName, ...secure }, onConnect);
  socket.setKeepAlive(true, 60_000);
  socket.setNoDelay(true);
  // kafkajs calls `unref` with each later error; on a closed socket each call would add a listener.
  socket.once('close', () => {
    socket.unref = () => socket;
  });
  return socket;
}

/** kafkajs's codec registry is global to the process. */
function registerCodecs(codecs: KafkaClientSettings['compressionCodecs']): void {
  for (const [name, codec] of Object.entries(codecs)) {
    kafkajs.CompressionCodecs[compressionTypes[name as keyof typeof codecs]] = () => ({
      compress: async (encoder: { buffer: Buffer }) => codec.compress(encoder.buffer),
      decompress: async (bytes: Buffer) => codec.decompress(bytes),
    });
  }
}

/** kafkajs's log lines at level debug: the transport logs what an operator needs. */
function logTo(logger: StorkLogger) {
  return ({
    label,
    namespace,
    log,
  }: {
    label: string;
    namespace: string;
    log: { message: string };
  }): void => {
    logger.debug(`kafkajs ${label} ${namespace}: ${log.message}`);
  };
}
