import type { BrokerName } from './index.mjs';

interface Options {
  rabbitmq?: string | undefined;
  kafka?: string | undefined;
}

interface Instance {
  id: string;
  port: number;
  innerPort: number;
  folder: string;
}

interface Entry {
  broker: BrokerName;
  how: 'native' | 'compose';
  port: number;
}

interface Arguments {
  command: 'up' | 'down' | 'status';
  names: BrokerName[];
  isAll: boolean;
  options: Options;
  purge: boolean;
}

interface Answer {
  version: string | undefined;
}

interface Addresses {
  addresses: { host: string; port: number }[];
  isSecure: boolean;
}

export function parseArguments(args: readonly string[]): Arguments;
export function readAddress(broker: BrokerName, text: string): Addresses;
export function instanceOf(broker: BrokerName, options?: Options): Instance;
export function isVersion(version: string | undefined, wanted: string | undefined): boolean;
export function readState(folder: string): Record<string, Entry>;
export function writeState(folder: string, id: string, change: Partial<Entry> | undefined): Promise<void>;
export function withLock<T>(
  folder: string,
  name: 'servers' | 'state',
  work: () => T | Promise<T>,
): Promise<T>;
export function isListening(port: number, host?: string): Promise<boolean>;
export function freePort(): Promise<number>;
export function readConnectionStart(received: Buffer): Answer | undefined;
export function readPong(received: Buffer): Answer | undefined;
export function readApiVersions(received: Buffer): Answer | undefined;
export function readNodes(received: Buffer): number[] | undefined;
export function mirrorIn(text: string, codename: string): string | undefined;
export function run(
  command: string,
  args: readonly string[],
  options?: { limitMs?: number },
): Promise<string>;
