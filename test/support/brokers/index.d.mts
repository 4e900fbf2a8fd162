export type BrokerName = 'rabbitmq' | 'kafka' | 'redis';

/** A version other than the usual one runs beside it, on a port of its own. Undefined accepts any version. */
export interface BrokerOptions {
  /** `4` listens on 5682. */
  rabbitmq?: '3.10' | '4' | undefined;
  /** `3.9` listens on 9192. */
  kafka?: '4.1' | '3.9' | undefined;
}

interface Server {
  /** As far as it is known: of a Kafka that was not started here only `3` or `4`. */
  version: string | undefined;
  /**
   * From the environment variable, already running on the usual port, or started here in a container or
   * without one.
   */
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
  /**
   * More lines for its configuration file (Redis: arguments); a line with a name that is there already
   * overrides it. With them it is never started in a container.
   */
  config?: readonly string[] | undefined;
  /**
   * Kafka only: a second listener for clients on this `port`, which advertises `address` (`host:port`) as the
   * broker's own: a proxy there gets all that they send. `brokers` of the server stays the direct way.
   */
  proxied?: { port: number; address: string } | undefined;
  /**
   * Kafka only: requires a login by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. Both of letters, digits, `_`, `.`
   * and `-`.
   */
  sasl?: { user: string; password: string } | undefined;
}

export interface ThrowAwayClusterOptions {
  /** @defaultValue 3 */
  brokers?: number | undefined;
  version?: string | undefined;
  /** More lines for the configuration file of each node. */
  config?: readonly string[] | undefined;
}

export interface ClusterNode {
  id: number;
  /** `host:port`, the same after a restart. */
  address: string;
  /** Starts it again, with its data, and waits until it is a member of the cluster. */
  start(this: void): Promise<void>;
  /** Ends it gracefully: it hands its partitions over first. */
  stop(this: void): Promise<void>;
  /** SIGKILL; the others take its partitions over after 4 s. */
  kill(this: void): Promise<void>;
}

export interface ThrowAwayCluster {
  brokers: string[];
  nodes: ClusterNode[];
  /** Ends every node and deletes its data. */
  remove(this: void): Promise<void>;
}

/** A server for one test. `url`, `brokers` and `ctl` stay good over its restarts. */
export type ThrowAway<Name extends BrokerName> = Servers[Name] & {
  /** Starts it again, with its data, and waits until it is ready. */
  start(this: void): Promise<void>;
  /** Ends it gracefully and keeps its data. */
  stop(this: void): Promise<void>;
  /** SIGKILL; its data on disk stays. */
  kill(this: void): Promise<void>;
  /**
   * Ends it and deletes its data. Left out, that is done by the next test process that needs a throw-away
   * server, or by `down`.
   */
  remove(this: void): Promise<void>;
};

/**
 * Brings the shared servers up where they are not, and waits until they are ready. They stay up afterwards.
 */
export function ensure<Name extends BrokerName>(
  names: readonly Name[],
  options?: BrokerOptions,
): Promise<Pick<Servers, Name>>;

/** The same for one. */
export function start<Name extends BrokerName>(name: Name, options?: BrokerOptions): Promise<Servers[Name]>;

/** Ends a shared server gracefully, if it was started here. */
export function stop(name: BrokerName, options?: BrokerOptions): Promise<void>;

/** SIGKILL for a shared server; rejects if it was not started here. */
export function kill(name: BrokerName, options?: BrokerOptions): Promise<void>;

/** Starts a server of its own, with data and ports of its own; several may run at once. */
export function throwAway<Name extends BrokerName>(
  name: Name,
  options?: ThrowAwayOptions,
): Promise<ThrowAway<Name>>;

/**
 * Kafka nodes that are broker and controller each; with three, every topic has three replicas of which two
 * have to be in sync. Rejects where one does not start, and leaves none behind.
 */
export function throwAwayCluster(name: 'kafka', options?: ThrowAwayClusterOptions): Promise<ThrowAwayCluster>;
