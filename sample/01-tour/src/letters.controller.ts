import { Controller } from '@nestjs/common';
import { Ctx, EventPattern } from '@nestjs/microservices';
import { StorkContext, via, type HeaderValue } from 'nestjs-stork';
import { Ledger } from './ledger.js';
import type { Outcome } from './outcome.js';

/**
 * Reads the dead letters of the shop. A dead letter is the message as it came, with headers that say why it is here; so a second
 * transport reads them like any other queue.
 */
@Controller()
export class LettersController {
  constructor(private readonly ledger: Ledger) {}

  /** `#` takes every pattern, also those that nobody in the shop knows. */
  @EventPattern('#', via('letters'))
  read(@Ctx() ctx: StorkContext): void {
    const { headers } = ctx;
    const outcome = outcomeOf(textOf(headers['stork-death-reason']));
    const error = `${textOf(headers['stork-error-name'])}: ${textOf(headers['stork-error-message'])}`;
    this.ledger.record(ctx, outcome, error);
  }
}

function outcomeOf(reason: string): Outcome {
  switch (reason) {
    case 'undecodable':
      return 'malformed';
    case 'invalid':
      return 'invalid';
    case 'no-handler':
      return 'unknown';
    default:
      return 'failed';
  }
}

/** Headers are text on most brokers and bytes on Kafka. */
function textOf(value: HeaderValue): string {
  if (value instanceof Uint8Array) return Buffer.from(value).toString();
  return typeof value === 'string' ? value : 'not told';
}
