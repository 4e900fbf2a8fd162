import { Controller } from '@nestjs/common';
import { Ctx, EventPattern } from '@nestjs/microservices';
import { StorkContext, via, type HeaderValue } from 'nestjs-stork';
import { ResultLog } from './result-log.js';
import type { Outcome } from './outcome.js';

/**
 * Consumes the dead letters of the shop. A dead letter is the original message with headers that name the
 * reason, so a second transport consumes it like any other message.
 */
@Controller()
export class DeadLettersController {
  constructor(private readonly results: ResultLog) {}

  /** `#` matches every pattern, also those without a handler in the shop. */
  @EventPattern('#', via('deadLetters'))
  read(@Ctx() ctx: StorkContext): void {
    const { headers } = ctx;
    const outcome = outcomeOf(textOf(headers['stork-death-reason']));
    const error = `${textOf(headers['stork-error-name'])}: ${textOf(headers['stork-error-message'])}`;
    this.results.record(ctx, outcome, error);
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
  return typeof value === 'string' ? value : 'unknown';
}
