import { Socket } from 'node:net';
import { openStore, replayAll } from './dead-letter-stores.js';

// Replays every dead letter, in a process of its own that kills itself in the middle.

export interface ReplayerSettings {
  readonly brokers: readonly string[];
  readonly group: string;
  readonly source: string;
  /** The request to a broker, counted from the start of the replay, at which the process kills itself. */
  readonly diesAtRequest: number;
}

const { brokers, group, source, diesAtRequest } = JSON.parse(process.argv[2]!) as ReplayerSettings;
const { store, close } = await openStore({ brokers, groupId: group }, { source });
const prototype = Socket.prototype as unknown as { write: (...given: unknown[]) => boolean };
const original = prototype.write;
let requests = 0;
prototype.write = function (...given) {
  const isLast = ++requests === diesAtRequest;
  // With an even number it dies before the request is sent, with an odd number after.
  if (isLast && diesAtRequest % 2 === 0) process.kill(process.pid, 'SIGKILL');
  const sent = original.apply(this, given);
  if (isLast) setTimeout(() => process.kill(process.pid, 'SIGKILL'), 2);
  return sent;
};
await replayAll(store);
await close();
