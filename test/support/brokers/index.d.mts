export type BrokerName = 'rabbitmq' | 'kafka' | 'redis';

/** A version other than the usual one lives beside it, on a port of its own. Undefined takes what there is. */
export interface BrokerOptions {
  /** `4` listens on 5682. */
  rabbitmq?: '3.10' | '4' | undefined;
  /** `3.9` listens on 9192. */
  kafka?: '4.1' | '3.9' | undefined;
}

interface Server {
  /** As far as it is known: of a Kafka that was not started here only `3` or `4`. */
  version: string | undefined;
  /** By the environment variable, by somebody else on the usual port, or started here in a container or without one. */
  how: 'given' | 'already there' | 'compose' | 'native';
}

export interface RabbitMqServer extends Server {
  url: string;
  /** Runs `rabbitmqctl` on it and gives what it printed. Rejects for a server that was not started here. */
  ctl(this: void, ...args: string[]): Promise<string>;
}

export interface KafkaServer extends Server {
  brokers: string[];
}

export interface RedisServer extends Server {
  url: string;
}

export interface Servers {
  rabbitmq: RabbitMqServer;
  kafka: KafkaServer;
  redis: RedisServer;
}

export interface ThrowAwayOptions {
  /** A free one by default. */
  port?: number | undefined;
  version?: string | undefined;
  /** More lines for its configuration file (Redis: arguments). With them it is never started in a container. */
  config?: readonly string[] | undefined;
}

/** A server for one test. `url`, `brokers` and `ctl` stay good over its restarts. */
export type ThrowAway<Name extends BrokerName> = Servers[Name] & {
  /** Starts it again, with its data, and waits until it is ready. */
  start(this: void): Promise<void>;
  /** Ends it in good order and keeps its data. */
  stop(this: void): Promise<void>;
  /** SIGKILL; what it has on disk stays. */
  kill(this: void): Promise<void>;
  /** Ends it and deletes its data. Left out, that is done by the next test process that needs a throw-away server, or by `down`. */
  remove(this: void): Promise<void>;
};

/** Brings the shared servers up where they are not, and waits until they are ready. They stay up afterwards. */
export function ensure<Name extends BrokerName>(
  names: readonly Name[],
  options?: BrokerOptions,
): Promise<Pick<Servers, Name>>;

/** The same for one. */
export function start<Name extends BrokerName>(name: Name, options?: BrokerOptions): Promise<Servers[Name]>;

/** Ends a shared server in good order, if it was started here. */
export function stop(name: BrokerName, options?: BrokerOptions): Promise<void>;

/** SIGKILL for a shared server; rejects if it was not started here. */
export function kill(name: BrokerName, options?: BrokerOptions): Promise<void>;

/** Starts a server of its own, with data and ports of its own; several may run at once. */
export function throwAway<Name extends BrokerName>(
  name: Name,
  options?: ThrowAwayOptions,
): Promise<ThrowAway<Name>>;
