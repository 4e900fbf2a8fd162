import type { DeliveryContext } from '../consume/delivery-context.js';
import type { FailedOutcome } from '../consume/outcome.js';
import type { SubscriptionScope } from '../consume/delivery-context.js';
import { quoted } from '../message/text.js';
import type { Delivery, RepublishedMessage } from '../port/delivery.js';
import { messageOf, remoteCodes } from '../runtime/errors.js';
import { libraryFailure, type Failure } from '../runtime/failure.js';
import { buildDeadLetter, type DeadLetterCause } from './dead-letter-message.js';
import { deadLetterTarget, type DeadLetterNotice, type DisclosurePolicy } from './dead-letter-options.js';

/** A dead letter to publish, and the notification that follows its confirmation. */
export interface PreparedDeadLetter {
  readonly republished: RepublishedMessage;
  notify(): void;
}

/** Builds the dead letter of a message that reaches no handler. */
export function deadLetterUnprocessable(
  { delivery, metadata, scope }: DeliveryContext,
  failure: Failure,
): PreparedDeadLetter {
  const { handlerId, attempt, firstFailedAt } = metadata;
  const { clock, deadLetter: policy } = scope;
  const cause = { failure, handlerId, attempt, firstFailedAt, failedAt: clock.now(), policy };
  return prepareDeadLetter(delivery, cause, { pattern: delivery.message.patterns[0]!, scope });
}

export function invalid(why: string): Failure {
  return libraryFailure('InvalidMessageError', why, 'invalid', {
    retryable: false,
    code: remoteCodes.invalid,
  });
}

export function deliveryLimitReached(limit: number): Failure {
  const why = `the message was requeued ${limit} times`;
  return libraryFailure('DeliveryLimitError', why, 'delivery-limit');
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
export function shouldDeadLetterRequest({ attempt, failure, isErrorReply }: FailedOutcome): boolean {
  const policy = attempt.handler.deadLetter;
  return failure.reason === 'rejected' || (policy?.enabled === true && policy.requests && !isErrorReply);
}

/**
 * Drops the message if its handler has dead-lettering disabled. Returns false if the message must be
 * dead-lettered.
 */
export function dropWithoutDeadLetter(
  { attempt, failure }: FailedOutcome,
  { delivery, scope }: DeliveryContext,
): boolean {
  const { handler } = attempt;
  if (handler.deadLetter?.enabled !== false || failure.reason === 'rejected') return false;
  scope.counters.add('dropped');
  scope.logger.warn(
    `${scope.subscription}: message ${quoted(delivery.message.messageId)} is dropped, its handler ${quoted(handler.id)} ` +
      `failed finally and has dead-lettering disabled: ${messageOf(failure.error)}`,
  );
  return true;
}

/** Builds the dead letter of a failed attempt, as the policy of its handler requires. */
export function deadLetterFailed(
  { attempt, failure, failedAt }: FailedOutcome,
  { delivery, scope }: DeliveryContext,
): PreparedDeadLetter {
  const { handler, number, firstFailedAt, pattern } = attempt;
  const policy = handler.deadLetter;
  const target = deadLetterTarget(policy, scope.capabilities);
  const cause = { failure, handlerId: handler.id, attempt: number, firstFailedAt, failedAt, policy, target };
  return prepareDeadLetter(delivery, cause, { pattern, scope });
}

interface DeadLetterDetails extends Omit<DeadLetterCause, 'subscription'> {
  readonly policy: DisclosurePolicy | undefined;
}

function prepareDeadLetter(
  { message }: Delivery,
  cause: DeadLetterDetails,
  { pattern, scope }: { readonly pattern: string; readonly scope: SubscriptionScope },
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

/** Calls `onDeadLetter` after the dead letter is confirmed. */
function notify(
  notice: DeadLetterNotice,
  onDeadLetter: DisclosurePolicy['onDeadLetter'],
  { subscription, logger, hooks }: SubscriptionScope,
): void {
  if (onDeadLetter === undefined) return;
  const ofHandler = notice.handler === undefined ? '' : ` of ${quoted(notice.handler)}`;
  void hooks.run(
    () => onDeadLetter(notice),
    (thrown) => logger.error(`${subscription}: onDeadLetter${ofHandler} failed: ${messageOf(thrown)}`),
  );
}
