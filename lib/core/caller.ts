import type { Answer, AnswerOutcome } from './answer.js';
import type { Counters } from './counters.js';
import { messageOf, type ErrorEnvelope } from './errors.js';
import type { StorkLogger } from './logger.js';
import type { ReplyOutcome } from './reply.js';

/** What is needed to say of an answer that it did not reach whoever asked. */
export interface CallerScope {
  readonly subscription: string;
  readonly logger: StorkLogger;
  readonly counters: Counters;
}

/** The message itself is kept elsewhere, so a caller who cannot be told is not asked for a second time. */
export async function tellCaller(
  answer: Answer | undefined,
  error: ErrorEnvelope,
  scope: CallerScope,
): Promise<void> {
  const outcome: AnswerOutcome | undefined = await answer?.fail(error);
  if (typeof outcome === 'string') noteUnread(outcome, scope);
  if (typeof outcome !== 'object') return;
  scope.logger.warn(`${scope.subscription}: an error reply was not confirmed: ${messageOf(outcome.lost)}`);
}

/** The same with what the handler has answered. */
export async function sendReply(answer: Answer, scope: CallerScope): Promise<void> {
  const outcome = await answer.end();
  if (typeof outcome === 'string') noteUnread(outcome, scope);
  if (typeof outcome !== 'object') return;
  scope.logger.warn(`${scope.subscription}: a reply was not confirmed: ${messageOf(outcome.lost)}`);
}

export function noteUnread(outcome: ReplyOutcome, { counters, logger, subscription }: CallerScope): void {
  if (outcome === 'confirmed') return;
  counters.add('reply-undeliverable');
  const why =
    outcome === 'too-large'
      ? 'a reply does not fit through the broker, its caller is told TOO_LARGE or a shortened error'
      : 'nobody listens where a reply was sent';
  logger.warn(`${subscription}: ${why}; the request counts as done`);
}
