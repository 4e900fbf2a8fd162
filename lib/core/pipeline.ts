import { Answer } from './answer.js';
import {
  buryRun,
  invalid,
  isDropped,
  isKept,
  noHandler,
  refuse,
  undecodable,
  type BurialScope,
  type Letter,
} from './burial.js';
import { noteUnread, tellCaller } from './caller.js';
import type { Codecs } from './codec.js';
import type { Delivery } from './delivery.js';
import type { Capabilities, Copy, Driver } from './driver.js';
import { messageOf, remoteCodes, type ErrorEnvelope } from './errors.js';
import type { Handler, HandlerTable, Route } from './handler-table.js';
import { readHeaderFacts, type HeaderFacts } from './header-facts.js';
import { runIdempotently, type IdempotencyScope } from './idempotent-handling.js';
import { acknowledgeEarly, hold } from './manual.js';
import { redeliveryCopy } from './redelivery.js';
import { followPolicy, isUnfinished, runToItsEnd, type RetryScope } from './retries.js';
import { isCutShort, isDecided, Run, wantsBack, type RunFields } from './run.js';
import {
  acknowledge,
  countStale,
  giveBack,
  keepCopies,
  requeue,
  type Held,
  type Settled,
} from './settlement.js';
import { quoted } from './text.js';

/** What every delivery of one subscription shares. */
export interface PipelineScope extends BurialScope, RetryScope, IdempotencyScope {
  readonly driver: Pick<Driver, 'parseReplyAddress' | 'reply' | 'roundDelay'>;
  readonly capabilities: Pick<Capabilities, 'requeuesTo' | 'destinations'>;
  readonly handlers: HandlerTable;
  readonly codecs: Codecs;
  /** Above it a message is dead-lettered unread. */
  readonly maxBodyBytes: number;
  readonly onUnhandled: 'dead-letter' | 'skip';
  readonly clockSkewMs: number;
}

/** One delivery on its way, with what is known about it. */
interface Job extends RunFields {
  readonly scope: PipelineScope;
}

/**
 * The life of one message, from the driver's hands to its settlement. At every await the epoch may end; whatever is settled afterwards
 * is refused by the delivery, counted `stale`, and the broker delivers the message again. Rejects only by a bug of ours.
 */
export async function processDelivery(delivery: Delivery, scope: PipelineScope): Promise<Settled | Held> {
  const { message } = delivery;
  scope.counters.add('received');

  // 1 What the headers say.
  const known = readHeaderFacts(message, scope.driver);
  const facts = known instanceof Promise ? await known : known;
  if (facts.deadline !== undefined && facts.deadline + scope.clockSkewMs <= scope.clock.now()) {
    scope.counters.add('expired');
    return acknowledge(delivery, scope);
  }
  const job: Job = { delivery, facts, scope, answer: openAnswer(delivery, facts, scope) };
  if (facts.reply.kind === 'forged') return refuse(job, invalid(facts.reply.why));
  const bytes = message.body?.length ?? 0;
  if (bytes > scope.maxBodyBytes) {
    return refuse(job, invalid(`the body has ${bytes} bytes, maxBodyBytes allows ${scope.maxBodyBytes}`));
  }

  // 2 Bytes to a value.
  const body = scope.codecs.decode(message.body, message.contentType, message.contentEncoding);
  if (!body.ok) return refuse(job, undecodable(body.error));

  // 3 Pattern to handlers.
  const route = scope.handlers.route(message.patterns);
  const handlers = chooseHandlers(route, job);
  if (handlers.length === 0) return unhandled(job, route);

  // Done before it begins, where that was asked for.
  if (delivery.mode === 'at-most-once' && !(await delivery.forgo())) return leave(job);

  // 4 Nest: guards, policies, interceptors, pipes, the user's method, filters.
  const input = { pattern: route.pattern, value: body.value };
  const attempt = facts.attempt + delivery.uncountedRuns;
  const runs =
    handlers.length === 1
      ? [new Run(handlers[0]!, job, input, attempt)]
      : handlers.map((handler) => new Run(handler, job, input, attempt));
  if (delivery.mode === 'manual')
    for (const run of runs) run.onVerb = () => acknowledgeEarly(delivery, runs, scope);
  if (runs.length === 1 && runs[0]!.handler.idempotency === undefined) {
    // `complete`, without the promises that it would cost every message.
    await runs[0]!.start();
    if (isUnfinished(runs[0]!)) runs[0] = await followPolicy(runs[0]!, scope);
  } else {
    await Promise.all(runs.map((_, i) => complete(runs, i, scope)));
  }

  // Taken away or given up meanwhile: it runs again elsewhere, and what came of it here is nobody's.
  if ((delivery.aborted && !delivery.isFinal) || runs.some(isCutShort)) return abandon(job);

  // 5 A request is done when its answer is confirmed, an event when every handler has succeeded or its dead letter is confirmed.
  if (delivery.mode === 'manual' && !runs.every(isDecided)) {
    return hold(job, runs, { settle: () => settleEvent(job, runs), abandon: () => abandon(job) });
  }
  return conclude(job, runs);
}

function openAnswer(delivery: Delivery, facts: HeaderFacts, scope: PipelineScope): Answer | undefined {
  if (facts.reply.kind !== 'address') return undefined;
  const { driver, codecs } = scope;
  const { correlationId, messageId } = delivery.message;
  return new Answer({
    driver,
    codecs,
    address: facts.reply.address,
    correlationId: correlationId ?? messageId ?? '',
  });
}

/** With a reply address the message handler; without one the event handlers, else the message handler with its result dropped. */
function chooseHandlers(route: Route, { facts, scope }: Job): readonly Handler[] {
  if (facts.handlerId !== undefined) {
    const handler = scope.handlers.byId(facts.handlerId);
    return handler === undefined ? [] : [handler];
  }
  if (facts.reply.kind === 'none' && route.events.length > 0) return route.events;
  return route.answering === undefined ? [] : [route.answering];
}

async function unhandled(job: Job, route: Route): Promise<Settled> {
  const { delivery, facts, answer, scope } = job;
  const failure = noHandler(facts.handlerId, route.pattern);
  if (scope.onUnhandled === 'dead-letter') return refuse(job, failure);
  await tellCaller(answer, failure.envelope, scope);
  scope.counters.add('unhandled-skipped');
  return acknowledge(delivery, scope);
}

/** Another consumer has it, or nobody: a shutdown that gave up while the broker was being told cannot know. */
function leave({ delivery, scope, answer }: Job): Settled {
  answer?.discard();
  countStale(delivery, scope);
  if (delivery.epoch.live) {
    const why = 'the broker did not confirm in time that it will not come again';
    scope.logger.warn(
      `${scope.subscription}: message ${quoted(delivery.message.messageId)} is not run: ${why}`,
    );
  }
  return 'done';
}

/** Each handler of an event has its own chain of runs and waits for none of the others. */
async function complete(runs: Run[], i: number, scope: PipelineScope): Promise<void> {
  const run = runs[i]!;
  const { idempotency } = run.handler;
  runs[i] = await (idempotency === undefined
    ? runToItsEnd(run, scope)
    : runIdempotently(run, idempotency, scope));
}

function abandon({ delivery, scope, answer }: Job): Settled {
  answer?.discard();
  if (delivery.open) return requeue(delivery, scope);
  countStale(delivery, scope);
  return 'done';
}

function conclude(job: Job, runs: readonly Run[]): Settled | Promise<Settled> {
  const { answer, delivery, scope } = job;
  if (runs.some(wantsBack)) {
    noteFailures(job, runs);
    // The next run answers.
    answer?.discard();
    return giveBack(delivery, scope);
  }
  return answer === undefined ? settleEvent(job, runs) : answerRequest(job, answer, runs[0]!);
}

function settleEvent(job: Job, runs: readonly Run[]): Settled | Promise<Settled> {
  noteFailures(job, runs);
  const copies: Copy[] = [];
  const letters: Letter[] = [];
  for (const run of runs) {
    const { death, redeliverInMs } = run;
    if (redeliverInMs !== undefined) {
      copies.push(postpone(run, redeliverInMs, job.scope));
      continue;
    }
    countEnd(run, job.scope);
    if (death === undefined || isDropped(run, death, job.scope)) continue;
    const letter = buryRun(run, death, job.scope);
    copies.push(letter.copy);
    letters.push(letter);
  }
  return copies.length === 0
    ? acknowledge(job.delivery, job.scope)
    : keepCopies(job.delivery, copies, job.scope, () => {
        for (const letter of letters) letter.tell();
      });
}

async function answerRequest(job: Job, answer: Answer, run: Run): Promise<Settled> {
  const { delivery, scope } = job;
  noteFailures(job, [run]);
  if (run.redeliverInMs !== undefined) {
    // The next run answers.
    answer.discard();
    return keepCopies(delivery, [postpone(run, run.redeliverInMs, scope)], scope);
  }
  countEnd(run, scope);
  if (run.death !== undefined && isKept(run)) {
    await tellCaller(answer, run.death.envelope, scope);
    const letter = buryRun(run, run.death, scope);
    return keepCopies(delivery, [letter.copy], scope, () => letter.tell());
  }
  // A message without a way back is answered in any case; what a shutdown has cut short is not the whole answer.
  const envelope = (run.death ?? run.failure)?.envelope ?? (delivery.aborted ? cutShort : undefined);
  const outcome = await (envelope === undefined ? answer.end() : answer.fail(envelope));
  if (typeof outcome === 'object') {
    const end = delivery.isFinal ? 'is not run again' : 'is given back';
    const why = messageOf(outcome.lost);
    scope.logger.warn(`${scope.subscription}: a reply was not confirmed, the request ${end}: ${why}`);
    return giveBack(delivery, scope);
  }
  if (typeof outcome === 'string') noteUnread(outcome, scope);
  return acknowledge(delivery, scope);
}

const cutShort: ErrorEnvelope = {
  name: 'AbortedError',
  message: 'the server was shut down before the handler had ended',
  code: remoteCodes.handlerFailed,
  retryable: true,
};

/** A verb has decided; what the handler did afterwards changes nothing, and must not go unseen. */
function noteFailures({ scope }: Job, runs: readonly Run[]): void {
  for (const { verb, failure, handler } of runs) {
    if (verb === undefined || verb === 'retry' || failure === undefined) continue;
    const why = messageOf(failure.error);
    scope.logger.warn(
      `${scope.subscription}: handler ${quoted(handler.id)} failed after its ${verb}: ${why}`,
    );
  }
}

/** A duplicate was counted as one. */
function countEnd({ death, isDuplicate }: Run, { counters }: PipelineScope): void {
  if (!isDuplicate) counters.add(death === undefined ? 'handled' : 'failed');
}

function postpone(
  { delivery, handler, attempt, firstFailedAt, isDeferred }: Run,
  delayMs: number,
  scope: PipelineScope,
): Copy {
  const next = {
    handlerId: handler.id,
    attempt: isDeferred ? attempt : attempt + 1,
    firstFailedAt,
    isDeferral: isDeferred,
    delayMs,
    now: scope.clock.now(),
  };
  return redeliveryCopy(delivery.message, next);
}
