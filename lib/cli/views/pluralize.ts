import type { DeadLetterStore } from '../../core/port/dead-letter-store.js';
import type { DeadLetterErrorInfo } from '../../core/dead-letter/admin/dead-letter-record.js';
import { safeLine } from './safe-text.js';

export function deadLettersText(count: number): string {
  return count === 1 ? '1 letter' : `${count} letters`;
}

/** Where they lie, and whose they are. */
export function storeText({ name, group }: DeadLetterStore): string {
  return group === undefined ? safeLine(name) : `${safeLine(name)}, of group ${safeLine(group)}`;
}

/** Where replayed ones go. */
export function destinationText({ source, group }: DeadLetterStore): string {
  return group === undefined ? safeLine(source) : `group ${safeLine(group)} of ${safeLine(source)}`;
}

export function errorLine({ name, message }: DeadLetterErrorInfo): string {
  return message === '' ? name : `${name}: ${message}`;
}
