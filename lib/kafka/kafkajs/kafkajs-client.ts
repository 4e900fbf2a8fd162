import net from 'node:net';
import tls from 'node:tls';
import kafkajs, { type ISocketFactoryArgs, type Kafka, type KafkaConfig } from 'kafkajs';
import type { StorkLogger } from '../../core/runtime/logger.js';
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
import { KafkaJsAdmin } from './kafkajs-admin.js';
import { compressionTypes, fewRetries } from './kafkajs-common.js';
import { KafkaJsConsumer } from './kafkajs-consumer.js';
import { openProducer, openTransactions } from './kafkajs-producers.js';
import { openReader } from './kafkajs-reader.js';
import type { CompressionCodec, KafkaSasl } from '../options/options.js';

// This file and kafkajs-*.ts alone know kafkajs 2.2.4. What it does that nobody would guess is said where it is dealt with.

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

/** The client set up: its addresses, security, sockets and log; what it opens is in the files kafkajs-*.ts. */
export class KafkaJsClient implements KafkaClient {
  readonly admin: KafkaJsAdmin;
  readonly #kafka: Kafka;

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
      socketFactory: openSocket,
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

  close(): Promise<void> {
    return this.admin.close();
  }
}

/** An answer after a request waits for nothing: without this, up to 40 ms for the peer's delayed acknowledgement. */
function openSocket({ host, port, ssl, onConnect }: ISocketFactoryArgs): net.Socket {
  // False or nothing without TLS, whatever the client's types say.
  const secure = ssl as tls.ConnectionOptions | false | null | undefined;
  const named = net.isIP(host) === 0 ? { servername: host } : {};
  const socket =
    secure === undefined || secure === null || secure === false
      ? net.connect({ host, port }, onConnect)
      : tls.connect({ host, port, ...named, ...secure }, onConnect);
  socket.setKeepAlive(true, 60_000);
  socket.setNoDelay(true);
  // The client lets go of a connection again with every failure after it; on a closed socket each time would leave a listener behind.
  socket.once('close', () => {
    socket.unref = () => socket;
  });
  return socket;
}

/** The client's registry is one for the process. */
function registerCodecs(codecs: KafkaClientSettings['compressionCodecs']): void {
  for (const [name, codec] of Object.entries(codecs)) {
    kafkajs.CompressionCodecs[compressionTypes[name as keyof typeof codecs]] = () => ({
      compress: async (encoder: { buffer: Buffer }) => codec.compress(encoder.buffer),
      decompress: async (bytes: Buffer) => codec.decompress(bytes),
    });
  }
}

/** What the client says of itself, for whoever looks closely: what matters is said by us, once. */
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
