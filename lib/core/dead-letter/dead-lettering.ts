import { sendErrorReply } from '../consume/reply-writer.js';
import { buildDeadLetter, type DeadLetterCause } from './dead-letter-message.js';
import { type DeadLetterNotice, type DeadLetterPolicy, deadLetterTarget } from './dead-letter-options.js';
import type { Delivery, RepublishedMessage } from '../port/delivery.js';
import type { Capabilities } from '../port/driver.js';
import { messageOf, remoteCodes } from '../runtime/errors.js';
import { libraryFailure, type Failure } from '../runtime/failure.js';
import type { Attempt, AttemptFields } from '../consume/attempt.js';
import { republishUntilConfirmed, type Settled, type SettlementScope } from '../consume/settlement.js';
import { quoted } from '../message/text.js';

/** What dead-lettering needs from the subscription. */
export interface DeadLetteringScope extends SettlementScope {
  readonly capabilities: Pick<Capabilities, 'requeue' | 'destinations'>;
  /** Policy for messages that reach no handler. They are always dead-lettered. */
  readonly deadLetter: DisclosurePolicy;
}

/** What a dead letter may disclose, and who is notified. */
type DisclosurePolicy = Pick<DeadLetterPolicy, 'includeStack' | 'redact' | 'onDeadLetter'>;

/** A dead letter to publish, and the notification that follows its confirmation. */
export interface PreparedDeadLetter {
  readonly republished: RepublishedMessage;
  notify(): void;
}

/** A message that reaches no handler: it is invalid, cannot be decoded, or has no handler. */
interface UnprocessableMessage extends AttemptFields {
  readonly scope: DeadLetteringScope;
}

/** Dead-letters a message that reaches no handler. The caller of a request gets an error reply. */
export async function deadLetterUnprocessable(
  { delivery, metadata, replyWriter, scope }: UnprocessableMessage,
  failure: Failure,
): Promise<Settled> {
  await sendErrorReply(replyWriter, failure.envelope, scope);
  const { handlerId, attempt, firstFailedAt } = metadata;
  const { clock, deadLetter: policy } = scope;
  const cause = { failure, handlerId, attempt, firstFailedAt, failedAt: clock.now(), policy };
  const deadLetter = prepareDeadLetter(delivery, cause, { pattern: delivery.message.patterns[0]!, scope });
  return republishUntilConfirmed(delivery, [deadLetter.republished], scope, () => deadLetter.notify());
}

export function invalid(why: string): Failure {
  return libraryFailure('InvalidMessageError', why, 'invalid', {
    retryable: false,
    code: remoteCodes.invalid,
  });
}

export function undecodable({ name, message }: { readonly name: string; readonly message: string }): Failure {
  return libraryFailure(name, message, 'undecodable', { retryable: false, code: remoteCodes.undecodable });
}

export function noHandler(handlerId: string | undefined, pattern: string): Failure {
  const why =
    handlerId === undefined
      ? `no handler for pattern ${quoted(pattern)}`
      : `no handler with the id ${quoted(handlerId)}`;
  return libraryFailure('NoHandlerError', why, 'no-handler', {
    retryable: false,
    code: remoteCodes.noHandler,
  });
}

/**
 * Whether a failed request is dead-lettered: always if the handler rejected it, never after a deliberate
 * error reply, otherwise if `requests` is enabled.
 */
export function shouldDeadLetter({
  decision,
  handler,
  isDeliberateErrorReply: isDeliberateReply,
}: Attempt): boolean {
  if (decision === 'reject' || decision === 'requeue') return true;
  return handler.deadLetter?.enabled === true && handler.deadLetter.requests && !isDeliberateReply;
}

/**
 * Drops the message if its handler has dead-lettering disabled. Returns false if the message must be
 * dead-lettered.
 */
export function dropWithoutDeadLetter(
  { decision, handler, delivery }: Attempt,
  cause: Failure,
  { counters, logger, subscription }: DeadLetteringScope,
): boolean {
  if (handler.deadLetter?.enabled !== false || decision === 'reject' || decision === 'requeue') return false;
  counters.add('dropped');
  logger.warn(
    `${subscription}: message ${quoted(delivery.message.messageId)} is dropped, its handler ${quoted(handler.id)} ` +
      `failed finally and has dead-lettering disabled: ${messageOf(cause.error)}`,
  );
  return true;
}

/** Builds the dead letter of an attempt, as the policy of its handler requires. */
export function deadLetterAttempt(
  attempt: Attempt,
  failure: Failure,
  scope: DeadLetteringScope,
): PreparedDeadLetter {
  const { delivery, handler, number, firstFailedAt, failedAt = scope.clock.now(), pattern } = attempt;
  const policy = handler.deadLetter;
  const target = deadLetterTarget(policy, scope.capabilities);
  const cause = {
    failure,
    handlerId: handler.id,
    attempt: number,
    firstFailedAt,
    failedAt,
    policy,
    target,
  };
  return prepareDeadLetter(delivery, cause, { pattern, scope });
}

interface DeadLetterDetails extends Omit<DeadLetterCause, 'subscription'> {
  readonly policy: DisclosurePolicy | undefined;
}

function prepareDeadLetter(
  { message }: Delivery,
  cause: DeadLetterDetails,
  { pattern, scope }: { readonly pattern: string; readonly scope: DeadLetteringScope },
): PreparedDeadLetter {
  const { logger, subscription } = scope;
  const { failure, handlerId, attempt, policy } = cause;
  logger.warn(
    `${subscription}: dead-lettered, reason ${failure.reason}, pattern ${quoted(message.patterns[0])}` +
      `${handlerId === undefined ? '' : `, handler ${quoted(handlerId)}`}, message ${quoted(message.messageId)}, ` +
      `attempt ${attempt}`,
  );
  const { reason, error } = failure;
  const { messageId } = message;
  const notice = { reason, error, transport: subscription, pattern, handler: handlerId, messageId, attempt };
  return {
    republished: buildDeadLetter(message, { ...cause, subscription }),
    notify: () => notify(notice, policy?.onDeadLetter, scope),
  };
}

/** Calls `onDeadLetter` after the dead letter is confirmed, without waiting for it. */
function notify(
  notice: DeadLetterNotice,
  onDeadLetter: DisclosurePolicy['onDeadLetter'],
  { subscription, logger }: DeadLetteringScope,
): void {
  if (onDeadLetter === undefined) return;
  const ofHandler = notice.handler === undefined ? '' : ` of ${quoted(notice.handler)}`;
  void (async () => onDeadLetter(notice))().catch((thrown: unknown) =>
    logger.error(`${subscription}: onDeadLetter${ofHandler} failed: ${messageOf(thrown)}`),
  );
}
