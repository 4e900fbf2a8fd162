import type { DeadLetterBox } from '../core/dead-letters.js';
import type { LetterError } from '../core/letter.js';
import { safeLine } from './safe-text.js';

export function lettersText(count: number): string {
  return count === 1 ? '1 letter' : `${count} letters`;
}

/** Where they lie, and whose they are. */
export function placeText({ name, group }: DeadLetterBox): string {
  return group === undefined ? safeLine(name) : `${safeLine(name)}, of group ${safeLine(group)}`;
}

/** Where replayed ones go. */
export function destinationText({ source, group }: DeadLetterBox): string {
  return group === undefined ? safeLine(source) : `group ${safeLine(group)} of ${safeLine(source)}`;
}

export function errorLine({ name, message }: LetterError): string {
  return message === '' ? name : `${name}: ${message}`;
}
