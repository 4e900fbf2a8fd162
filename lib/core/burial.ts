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
  /** For messages that no handler may see, so that none can say what may be told of them. They are kept in any case. */
  readonly deadLetter: LetterPolicy;
}

/** What may be told of a letter, and to whom. */
type LetterPolicy = Pick<DeadLetterPolicy, 'includeStack' | 'redact' | 'onDeadLetter'>;

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
  const { clock, deadLetter: policy } = scope;
  const death = { failure, handlerId, attempt, firstFailedAt, failedAt: clock.now(), policy };
  const letter = bury(delivery, death, { pattern: delivery.message.patterns[0]!, scope });
  return keepCopies(delivery, [letter.copy], scope, () => letter.tell());
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
  return bury(delivery, death, { pattern, scope });
}

interface Dead extends Omit<Death, 'subscription'> {
  readonly policy: LetterPolicy | undefined;
}

function bury(
  { message }: Delivery,
  death: Dead,
  { pattern, scope }: { readonly pattern: string; readonly scope: BurialScope },
): Letter {
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
    copy: deadLetterCopy(message, { ...death, subscription }),
    tell: () => tell(notice, policy?.onDeadLetter, scope),
  };
}

/** The letter is stored; who wants to know is told, and waited for by nobody. */
function tell(
  notice: DeadLetterNotice,
  onDeadLetter: LetterPolicy['onDeadLetter'],
  { subscription, logger }: BurialScope,
): void {
  if (onDeadLetter === undefined) return;
  const whose = notice.handler === undefined ? '' : ` of ${quoted(notice.handler)}`;
  void (async () => onDeadLetter(notice))().catch((thrown: unknown) =>
    logger.error(`${subscription}: onDeadLetter${whose} failed: ${messageOf(thrown)}`),
  );
}
