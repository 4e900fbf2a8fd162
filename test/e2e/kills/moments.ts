// What a test and the worker that it kills say to one another.

/** Where it dies. The moments that only the library knows are met by stepping in between two of its calls. */
export type Moment =
  /** The handler has begun. */
  | 'running'
  /** The handler has succeeded; its message is not acknowledged. */
  | 'handled'
  /** The next run is confirmed by the broker; the message is not acknowledged. */
  | 'retry-published'
  /** The dead letter is confirmed by the broker; the message is not acknowledged. */
  | 'dead-letter-published'
  /** The store has given it the key, and does not know yet what becomes of it. */
  | 'begun';

export interface WorkerSettings {
  readonly broker: 'rabbitmq' | 'kafka';
  /** URL of RabbitMQ, or the brokers of Kafka with commas between. */
  readonly address: string;
  /** Queue, or topic and group. */
  readonly source: string;
  readonly moment: Moment;
  /** Where the idempotency keys are kept, if the handler is to be idempotent. */
  readonly redisUrl?: string | undefined;
  /** It dies when the moment has come so often; undefined: it lives. */
  readonly dieAt: number | undefined;
}

export interface Told {
  readonly event: 'ready' | 'start' | 'end' | 'failed' | 'dying';
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly n?: number;
  readonly attempt?: number;
}

export const redeliverDelayMs = 300;
export const concurrency = 10;
export const leaseMs = 2_000;
