import { sendErrorReply } from '../consume/reply-writer.js';
import { buildDeadLetter, type DeadLetterCause } from './dead-letter-message.js';
import { type DeadLetterNotice, type DeadLetterPolicy, deadLetterTarget } from './dead-letter-options.js';
import type { Delivery, RepublishedMessage } from '../port/delivery.js';
import type { Capabilities } from '../port/driver.js';
import { messageOf, remoteCodes } from '../runtime/errors.js';
import { ownFailure, type Failure } from '../runtime/failure.js';
import type { Attempt, AttemptFields } from '../consume/attempt.js';
import { republishUntilConfirmed, type Settled, type SettlementScope } from '../consume/settlement.js';
import { quoted } from '../message/text.js';

/** What it takes to make a letter of a message. */
export interface DeadLetteringScope extends SettlementScope {
  readonly capabilities: Pick<Capabilities, 'requeue' | 'destinations'>;
  /** For messages that no handler may see, so that none can say what may be told of them. They are kept in any case. */
  readonly deadLetter: DisclosurePolicy;
}

/** What may be told of a letter, and to whom. */
type DisclosurePolicy = Pick<DeadLetterPolicy, 'includeStack' | 'redact' | 'onDeadLetter'>;

/** A dead letter that is to be stored, and the word to whoever wants to know once it is. */
export interface PreparedDeadLetter {
  readonly republished: RepublishedMessage;
  notify(): void;
}

/** A message that no handler may see. */
interface Refused extends AttemptFields {
  readonly scope: DeadLetteringScope;
}

/** Keeps a message that no handler may see, and tells the caller if there is one. */
export async function deadLetterUnprocessable(
  { delivery, metadata, replyWriter, scope }: Refused,
  failure: Failure,
): Promise<Settled> {
  await sendErrorReply(replyWriter, failure.envelope, scope);
  const { handlerId, attempt, firstFailedAt } = metadata;
  const { clock, deadLetter: policy } = scope;
  const death = { failure, handlerId, attempt, firstFailedAt, failedAt: clock.now(), policy };
  const deadLetter = prepareDeadLetter(delivery, death, { pattern: delivery.message.patterns[0]!, scope });
  return republishUntilConfirmed(delivery, [deadLetter.republished], scope, () => deadLetter.notify());
}

export function invalid(why: string): Failure {
  return ownFailure('InvalidMessageError', why, 'invalid', { retryable: false, code: remoteCodes.invalid });
}

export function undecodable({ name, message }: { readonly name: string; readonly message: string }): Failure {
  return ownFailure(name, message, 'undecodable', { retryable: false, code: remoteCodes.undecodable });
}

export function noHandler(handlerId: string | undefined, pattern: string): Failure {
  const why =
    handlerId === undefined
      ? `no handler for pattern ${quoted(pattern)}`
      : `no handler with the id ${quoted(handlerId)}`;
  return ownFailure('NoHandlerError', why, 'no-handler', { retryable: false, code: remoteCodes.noHandler });
}

/** What the handler rejects is kept in any case; a failed request where somebody has asked for it, a deliberate answer never. */
export function shouldDeadLetter({
  verb,
  handler,
  isDeliberateErrorReply: isDeliberateReply,
}: Attempt): boolean {
  if (verb === 'reject' || verb === 'requeue') return true;
  return handler.deadLetter?.enabled === true && handler.deadLetter.requests && !isDeliberateReply;
}

/** Where a handler keeps no dead letters. */
export function dropWithoutDeadLetter(
  { verb, handler, delivery }: Attempt,
  death: Failure,
  { counters, logger, subscription }: DeadLetteringScope,
): boolean {
  if (handler.deadLetter?.enabled !== false || verb === 'reject' || verb === 'requeue') return false;
  counters.add('dropped');
  logger.warn(
    `${subscription}: message ${quoted(delivery.message.messageId)} is dropped, its handler ${quoted(handler.id)} ` +
      `failed for good and keeps no dead letters: ${messageOf(death.error)}`,
  );
  return true;
}

/** The letter of a run that has failed for good, as its handler's policy wants it. */
export function deadLetterAttempt(
  run: Attempt,
  failure: Failure,
  scope: DeadLetteringScope,
): PreparedDeadLetter {
  const { delivery, handler, number: attempt, firstFailedAt, failedAt = scope.clock.now(), pattern } = run;
  const policy = handler.deadLetter;
  const target = deadLetterTarget(policy, scope.capabilities);
  const death = { failure, handlerId: handler.id, attempt, firstFailedAt, failedAt, policy, target };
  return prepareDeadLetter(delivery, death, { pattern, scope });
}

interface DeadLetterDetails extends Omit<DeadLetterCause, 'subscription'> {
  readonly policy: DisclosurePolicy | undefined;
}

function prepareDeadLetter(
  { message }: Delivery,
  death: DeadLetterDetails,
  { pattern, scope }: { readonly pattern: string; readonly scope: DeadLetteringScope },
): PreparedDeadLetter {
  const { logger, subscription } = scope;
  const { failure, handlerId, attempt, policy } = death;
  logger.warn(
    `${subscription}: dead letter ${failure.reason}, pattern ${quoted(message.patterns[0])}` +
      `${handlerId === undefined ? '' : `, handler ${quoted(handlerId)}`}, message ${quoted(message.messageId)}, ` +
      `attempt ${attempt}`,
  );
  const { reason, error } = failure;
  const { messageId } = message;
  const notice = { reason, error, transport: subscription, pattern, handler: handlerId, messageId, attempt };
  return {
    republished: buildDeadLetter(message, { ...death, subscription }),
    notify: () => tell(notice, policy?.onDeadLetter, scope),
  };
}

/** The letter is stored; who wants to know is told, and waited for by nobody. */
function tell(
  notice: DeadLetterNotice,
  onDeadLetter: DisclosurePolicy['onDeadLetter'],
  { subscription, logger }: DeadLetteringScope,
): void {
  if (onDeadLetter === undefined) return;
  const whose = notice.handler === undefined ? '' : ` of ${quoted(notice.handler)}`;
  void (async () => onDeadLetter(notice))().catch((thrown: unknown) =>
    logger.error(`${subscription}: onDeadLetter${whose} failed: ${messageOf(thrown)}`),
  );
}
