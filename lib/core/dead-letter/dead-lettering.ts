import { hostname } from 'node:os';
import type { DeliveryContext, SubscriptionScope } from '../consume/delivery-context.js';
import type { FailedOutcome } from '../consume/outcome.js';
import {
  copyHeaders,
  headerNames,
  headerSetter,
  timeText,
  writeDeadLetterOrigin,
} from '../message/headers.js';
import {
  cutToBytes,
  describeAttempt,
  describeError,
  describeThrown,
  quoted,
  redacted,
} from '../message/text.js';
import { headersErrorName, type InboundMessage } from '../port/message.js';
import type { Delivery, RepublishedMessage } from '../port/delivery.js';
import { messageOf, remoteCodes, stackOf } from '../runtime/errors.js';
import { libraryFailure, type Failure } from '../runtime/failure.js';
import type { DeadLetterNotice, DeadLetterPolicy, DisclosurePolicy } from './dead-letter-options.js';

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
  const { message } = delivery;
  scope.logger.warn(
    `${scope.subscription}: message ${quoted(message.messageId)}, pattern ${quoted(message.patterns[0])}, ` +
      `reached no handler and is dead-lettered in ${destinationOf(message, undefined, scope)}, ` +
      `reason ${failure.reason}: ${describeError(failure, policy.redact)}`,
  );
  const cause = { failure, handlerId, attempt, firstFailedAt, failedAt: clock.now(), policy };
  return prepareDeadLetter(delivery, cause, { pattern: message.patterns[0]!, scope });
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

export function undecodableHeaders(why: string): Failure {
  return undecodable({ name: headersErrorName, message: why });
}

/** @param returns how often the message was sent back for another process */
export function noHandler(handlerId: string | undefined, pattern: string, returns = 0): Failure {
  const missing =
    handlerId === undefined
      ? `no handler for pattern ${quoted(pattern)}`
      : `no handler with the id ${quoted(handlerId)}`;
  const why = returns === 0 ? missing : `${missing}; the message was sent back ${returns} times for one`;
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
  { scope }: DeliveryContext,
): boolean {
  const { handler } = attempt;
  if (handler.deadLetter?.enabled !== false || failure.reason === 'rejected') return false;
  scope.counters.add('dropped');
  scope.logger.warn(
    `${describeAttempt(attempt)} failed: ${describeError(failure, handler.deadLetter.redact)}; ` +
      'the message is dropped, because dead-lettering is disabled for the handler',
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
  const target = policy?.[scope.deadLetterKind];
  scope.logger.warn(
    `${describeAttempt(attempt)} failed: ${describeError(failure, policy?.redact)}; ` +
      `dead-lettered in ${destinationOf(delivery.message, target, scope)}, reason ${failure.reason}`,
  );
  const cause = { failure, handlerId: handler.id, attempt: number, firstFailedAt, failedAt, policy, target };
  return prepareDeadLetter(delivery, cause, { pattern, scope });
}

/** For log lines. */
function destinationOf(
  { origin }: InboundMessage,
  target: string | undefined,
  { driver }: Pick<SubscriptionScope, 'driver'>,
): string {
  return quoted(target ?? driver.deadLetterName(origin.source));
}

interface DeadLetterDetails extends Omit<DeadLetterCause, 'subscription'> {
  readonly policy: DisclosurePolicy | undefined;
}

function prepareDeadLetter(
  { message }: Delivery,
  cause: DeadLetterDetails,
  { pattern, scope }: { readonly pattern: string; readonly scope: SubscriptionScope },
): PreparedDeadLetter {
  const { subscription } = scope;
  const { failure, handlerId, attempt, policy } = cause;
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

/**
 * Limits of the error's texts: a dead letter's headers must fit into one frame of 128 KiB, together with
 * the message's own.
 */
const maxNameBytes = 256;
const maxMessageBytes = 1_024;
const maxStackBytes = 4_096;

export interface DeadLetterCause {
  readonly failure: Failure;
  /** Id of the failed handler; undefined if there was none. */
  readonly handlerId: string | undefined;
  /** Number of the last attempt. */
  readonly attempt: number;
  readonly firstFailedAt: number | undefined;
  /** Milliseconds since the Unix epoch. */
  readonly failedAt: number;
  readonly subscription: string;
  /** What may be disclosed about the error; undefined: everything. */
  readonly policy?: Pick<DeadLetterPolicy, 'includeStack' | 'redact'> | undefined;
  /** The handler's own dead letter queue or topic; undefined: the default of the source. */
  readonly target?: string | undefined;
}

const host = hostname();

/**
 * Builds the dead letter: the message with its own headers, overwritten by those that describe the failure.
 */
export function buildDeadLetter(message: InboundMessage, cause: DeadLetterCause): RepublishedMessage {
  const headers = copyHeaders(message.headers);
  const set = headerSetter(headers);
  writeDeadLetterOrigin(headers, message);
  const { reason, name, message: text, error, filtered } = cause.failure;
  set(headerNames.deathReason, reason);
  set(headerNames.failedAt, timeText(cause.failedAt));
  set(headerNames.firstFailedAt, timeText(cause.firstFailedAt ?? cause.failedAt));
  set(headerNames.attempt, String(cause.attempt));
  set(headerNames.handler, cause.handlerId);
  // The count restarts at 0: a dead letter is a new message to its consumer.
  set(headerNames.unhandledCount, undefined);
  set(headerNames.errorName, cutToBytes(name, maxNameBytes));
  const stack = cause.policy?.includeStack === false ? undefined : stackOf(error);
  const disclose = (text: string, maxBytes: number): string =>
    cutToBytes(redacted(text, cause.policy?.redact), maxBytes);
  set(headerNames.errorMessage, disclose(text, maxMessageBytes));
  set(headerNames.errorStack, stack === undefined ? undefined : disclose(stack, maxStackBytes));
  const filterError = filtered === undefined ? undefined : describeThrown(filtered);
  set(
    headerNames.filterError,
    filterError === undefined ? undefined : disclose(filterError, maxMessageBytes),
  );
  set(headerNames.consumer, `${host}/${process.pid}/${cause.subscription}`);
  return cause.target === undefined
    ? { to: 'dead-letter', headers }
    : { to: 'dead-letter', headers, target: cause.target };
}
