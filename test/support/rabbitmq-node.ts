import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, inject } from 'vitest';
import { throwAway, type ThrowAway } from './brokers/index.mjs';

/** A virtual host of a test, with a user of its own. */
export interface VirtualHost {
  readonly name: string;
  /** The address with user and password. */
  readonly url: string;
  readonly user: string;
  readonly password: string;
}

export interface VirtualHostOptions {
  /** Regular expressions of `rabbitmqctl set_permissions`. @defaultValue '.*' */
  readonly configure?: string;
  readonly write?: string;
  readonly read?: string;
  readonly maxConnections?: number;
}

/** A RabbitMQ of one test file, whose node-wide settings disturb no other file. */
export class RabbitMqNode {
  readonly server: ThrowAway<'rabbitmq'>;

  constructor(server: ThrowAway<'rabbitmq'>) {
    this.server = server;
  }

  get url(): string {
    return this.server.url;
  }

  ctl(...args: string[]): Promise<string> {
    return this.server.ctl(...args);
  }

  /** Blocks every connection that publishes, until `clearAlarm`. */
  async memoryAlarm(): Promise<void> {
    await this.ctl('set_vm_memory_high_watermark', '0.00001');
  }

  async clearAlarm(): Promise<void> {
    await this.ctl('set_vm_memory_high_watermark', '0.4');
  }

  /** Holds for channels that are opened afterwards. */
  async maxMessageSize(bytes: number): Promise<void> {
    await this.ctl('eval', `application:set_env(rabbit, max_message_size, ${bytes}).`);
  }

  async virtualHost(options: VirtualHostOptions = {}): Promise<VirtualHost> {
    const { configure = '.*', write = '.*', read = '.*', maxConnections } = options;
    const name = `vhost-${randomUUID().slice(0, 13)}`;
    const user = `user-${name}`;
    const password = 'pw-of-the-test';
    await this.ctl('add_vhost', name);
    await this.ctl('add_user', user, password);
    await this.ctl('set_permissions', '-p', name, user, configure, write, read);
    if (maxConnections !== undefined) await this.limitConnections(name, maxConnections);
    const url = new URL(this.url);
    url.username = user;
    url.password = password;
    url.pathname = `/${name}`;
    return { name, url: url.href, user, password };
  }

  async limitConnections(virtualHost: string, count: number): Promise<void> {
    const limits = JSON.stringify({ 'max-connections': count });
    await this.ctl('set_vhost_limits', '-p', virtualHost, limits);
  }
}

/** One node for all tests of a file. */
export function useRabbitMqNode(): () => RabbitMqNode {
  let node: RabbitMqNode | undefined;
  beforeAll(async () => {
    node = new RabbitMqNode(await throwAway('rabbitmq', { version: inject('rabbitmqVersion') }));
  }, 300_000);
  afterAll(() => node?.server.remove());
  return () => node!;
}
