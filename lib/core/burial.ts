import { tellCaller } from './caller.js';
import { deadLetterCopy, type Death } from './dead-letter.js';
import type { DeadLetterNotice, DeadLetterPolicy } from './dead-letter-options.js';
import { letterTarget } from './dead-letter-target.js';
import type { Delivery } from './delivery.js';
import type { Capabilities, Copy } from './driver.js';
import { messageOf, remoteCodes } from './errors.js';
import { ownFailure, type Failure } from './failure.js';
import type { Run, RunFields } from './run.js';
import { keepCopies, type Settled, type SettlementScope } from './settlement.js';
import { quoted } from './text.js';

/** What it takes to make a letter of a message. */
export interface BurialScope extends SettlementScope {
  readonly capabilities: Pick<Capabilities, 'requeuesTo' | 'destinations'>;
}

/** A dead letter that is to be stored, and the word to whoever wants to know once it is. */
export interface Letter {
  readonly copy: Copy;
  tell(): void;
}

/** A message that no handler may see. */
interface Refused extends RunFields {
  readonly scope: BurialScope;
}

/** Keeps a message that no handler may see, and tells the caller if there is one. */
export async function refuse(
  { delivery, facts, answer, scope }: Refused,
  failure: Failure,
): Promise<Settled> {
  await tellCaller(answer, failure.envelope, scope);
  const { handlerId, attempt, firstFailedAt } = facts;
  const failedAt = scope.clock.now();
  const copy = bury(delivery, { failure, handlerId, attempt, firstFailedAt, failedAt }, scope);
  return keepCopies(delivery, [copy], scope);
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
export function isKept({ verb, handler, isAnswer }: Run): boolean {
  if (verb === 'reject' || verb === 'requeue') return true;
  return handler.deadLetter?.enabled === true && handler.deadLetter.requests && !isAnswer;
}

/** Where a handler keeps no dead letters. */
export function isDropped(
  { verb, handler, delivery }: Run,
  death: Failure,
  { counters, logger, subscription }: BurialScope,
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
export function buryRun(run: Run, failure: Failure, scope: BurialScope): Letter {
  const { delivery, handler, attempt, firstFailedAt, failedAt = scope.clock.now(), pattern } = run;
  const policy = handler.deadLetter;
  const target = letterTarget(policy, scope.capabilities);
  const death = { failure, handlerId: handler.id, attempt, firstFailedAt, failedAt, policy, target };
  const copy = bury(delivery, death, scope);
  const { reason, error } = failure;
  const { messageId } = delivery.message;
  const transport = scope.subscription;
  const notice = { reason, error, transport, pattern, handler: handler.id, messageId, attempt };
  return { copy, tell: () => tell(notice, policy, scope) };
}

function bury({ message }: Delivery, death: Omit<Death, 'subscription'>, scope: BurialScope): Copy {
  const { logger, subscription } = scope;
  const { failure, handlerId, attempt } = death;
  logger.warn(
    `${subscription}: dead letter ${failure.reason}, pattern ${quoted(message.patterns[0])}` +
      `${handlerId === undefined ? '' : `, handler ${quoted(handlerId)}`}, message ${quoted(message.messageId)}, ` +
      `attempt ${attempt}`,
  );
  return deadLetterCopy(message, { ...death, subscription });
}

/** The letter is stored; who wants to know is told, and waited for by nobody. */
function tell(
  notice: DeadLetterNotice,
  policy: Pick<DeadLetterPolicy, 'onDeadLetter'> | undefined,
  { subscription, logger }: BurialScope,
): void {
  const onDeadLetter = policy?.onDeadLetter;
  if (onDeadLetter === undefined) return;
  void (async () => onDeadLetter(notice))().catch((thrown: unknown) =>
    logger.error(`${subscription}: onDeadLetter of ${quoted(notice.handler)} failed: ${messageOf(thrown)}`),
  );
}
