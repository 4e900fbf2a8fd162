import type { StoredLetter } from './dead-letters.js';
import { copyHeaders, deathHeaders, headerNames, readCount, type Headers } from './headers.js';
import { setterOf, writeOrigin } from './origin.js';

/** What is told of the runs before it: the replayed message begins anew. Its handler's name stays: it is for nobody else. */
const ofItsRuns = [headerNames.attempt, headerNames.firstFailedAt, headerNames.dueAt, headerNames.deadline];

/** Headers of the copy that goes back: one replay more, and where the message first came from. */
export function replayHeaders({ message, brokerDeath }: StoredLetter): Headers {
  const headers = copyHeaders(message.headers);
  const set = setterOf(headers);
  // Where the broker has killed it, nobody of ours has written it down.
  if (brokerDeath !== undefined) writeOrigin(headers, { origin: brokerDeath, timestamp: message.timestamp });
  for (const name of [...ofItsRuns, ...deathHeaders]) set(name, undefined);
  set(headerNames.replayCount, String((readCount(headers, headerNames.replayCount) ?? 0) + 1));
  return headers;
}
