import type { DeadLetterStore } from '../../core/port/dead-letter-store.js';
import type { DeadLetterErrorInfo } from '../../core/dead-letter/admin/dead-letter-record.js';
import { safeLine } from './safe-text.js';

/** @param adjective with a space behind it */
export function deadLettersText(count: number, adjective = ''): string {
  return `${count} ${adjective}dead ${count === 1 ? 'letter' : 'letters'}`;
}

/** The dead letter queue or topic, and the consumer group in which the messages failed. */
export function storeText({ name, group }: DeadLetterStore): string {
  return group === undefined ? safeLine(name) : `${safeLine(name)}, of group ${safeLine(group)}`;
}

/** The target of a replay. */
export function destinationText({ source, group }: DeadLetterStore): string {
  return group === undefined ? safeLine(source) : `group ${safeLine(group)} of ${safeLine(source)}`;
}

export function errorLine({ name, message }: DeadLetterErrorInfo): string {
  return message === '' ? name : `${name}: ${message}`;
}
