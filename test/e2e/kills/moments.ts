// The protocol between a test and the worker that it kills.

/** When the worker kills itself. Moments inside the library are reached by wrapping one of its calls. */
export type Moment =
  /** The handler has begun. */
  | 'running'
  /** The handler has succeeded; its message is not acknowledged. */
  | 'handled'
  /** The broker has confirmed the publish to the retry queue or topic; the message is not acknowledged. */
  | 'retry-published'
  /** The broker has confirmed the dead letter; the message is not acknowledged. */
  | 'dead-letter-published'
  /** The store has granted the key; the outcome is not stored yet. */
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
  /** The occurrence of the moment at which it kills itself; undefined: never. */
  readonly dieAt: number | undefined;
}

export interface WorkerEvent {
  readonly event: 'ready' | 'start' | 'end' | 'failed' | 'dying';
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  readonly n?: number;
  readonly attempt?: number;
}

export const redeliverDelayMs = 300;
export const concurrency = 10;
export const leaseMs = 2_000;
