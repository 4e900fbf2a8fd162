import type { DeliveryMode, DeliveryOrder, SubscribedPattern } from './driver.js';
import type { Problem } from './errors.js';
import type { Handler } from './handler-table.js';
import { kafkaHeaders } from './log-records.js';
import type { InboundMessage } from './message.js';
import { matches, type Pattern } from './pattern.js';

/** How a handler wants its messages; what it does not say is the default. */
export interface ConsumptionWishes {
  readonly order?: DeliveryOrder | undefined;
  readonly delivery?: DeliveryMode | undefined;
  /** Runs of the handler at once. @defaultValue as many as the subscription's */
  readonly concurrency?: number | undefined;
  /** How long a run may take. @defaultValue as long as it likes */
  readonly timeoutMs?: number | undefined;
}

/** How the messages of one source are handed over. */
export type Consumption = Pick<SubscribedPattern, 'order' | 'delivery'>;

const defaults: Consumption = { order: 'key', delivery: 'at-least-once' };

/** Each pattern once for each way in which handlers want it; where that is more than one, `findDisagreements` says so. */
export function subscribedPatterns(handlers: readonly Handler[]): SubscribedPattern[] {
  const patterns = new Map<string, SubscribedPattern & { places: string[] }>();
  for (const { id, patterns: wanted, consumption } of handlers) {
    const { order = defaults.order, delivery = defaults.delivery } = consumption ?? {};
    for (const pattern of wanted) {
      const name = JSON.stringify([pattern.text, order, delivery]);
      const known = patterns.get(name) ?? { ...pattern, order, delivery, places: [] };
      patterns.set(name, known);
      known.places.push(id);
    }
  }
  return [...patterns.values()];
}

/**
 * How a source is consumed that `findDisagreements` has nothing to say about.
 *
 * @param source where each pattern is a source of its own: which one
 */
export function consumptionOf(patterns: readonly SubscribedPattern[], source?: string): Consumption {
  const found = source === undefined ? patterns[0] : patterns.find((pattern) => matches(pattern, source));
  return found ?? defaults;
}

/**
 * The lane of a message of a log; a record without a key takes its partition's order. A request without one runs free: each caller waits
 * for its own answer, and would wait for all those before it.
 */
export function laneOf(
  order: DeliveryOrder,
  partition: string,
  { key, headers }: Pick<InboundMessage, 'key' | 'headers'>,
): string | undefined {
  switch (order) {
    case 'none':
      return undefined;
    case 'partition':
      return partition;
    case 'key':
      if (key !== undefined) return `${partition}/${key}`;
      return headers[kafkaHeaders.replyTopic] === undefined ? partition : undefined;
  }
}

/** What is wrong where these patterns share one source: its messages are handed over in one way only. */
export function findDisagreements(patterns: readonly SubscribedPattern[], source: string): Problem[] {
  const [first] = patterns;
  return (['order', 'delivery'] as const).flatMap((name) => {
    const other = patterns.find((pattern) => pattern[name] !== first![name]);
    if (other === undefined) return [];
    return {
      name: `@Consume({ ${name} }) of ${other.places[0]}`,
      expected: `the same as of ${first!.places[0]}, which reads ${source} too: '${first![name]}'`,
      given: `'${other[name]}'`,
    };
  });
}

/** The same where each pattern is a source of its own. */
export function findDisagreementsByPattern(patterns: readonly SubscribedPattern[]): Problem[] {
  const found = patterns.flatMap((one) => {
    const sharing = patterns.filter((pattern) => overlaps(pattern, one));
    return findDisagreements(sharing, one.text);
  });
  return [...new Map(found.map((problem) => [`${problem.name} ${problem.expected}`, problem])).values()];
}

/** A queue has no partitions whose order could be kept. */
export function refusePartitionOrder(patterns: readonly SubscribedPattern[], transport: string): Problem[] {
  const places = patterns.flatMap(({ order, places }) => (order === 'partition' ? places : []));
  return [...new Set(places)].map((place) => ({
    name: `@Consume({ order }) of ${place}`,
    expected: `'key' or 'none' on the transport ${JSON.stringify(transport)}, whose queue has no partitions`,
    given: `'partition'`,
  }));
}

/** With `manual` the handler settles the message, so there can be one. */
export function refuseSharedManual(handlers: readonly Handler[]): Problem[] {
  const manual = handlers.filter(
    ({ kind, consumption }) => kind === 'event' && consumption?.delivery === 'manual',
  );
  return manual.flatMap((handler, i) => {
    const other = manual.slice(0, i).find(({ patterns }) => shared(patterns, handler.patterns) !== undefined);
    if (other === undefined) return [];
    return {
      name: `@Consume({ delivery }) of ${handler.id}`,
      expected: `one handler for an event where delivery is 'manual'`,
      given: `${other.id} listens to ${shared(other.patterns, handler.patterns)} too`,
    };
  });
}

/** With `manual` the handler may settle the message long after its run, so that the run's end says nothing of the work. */
export function refuseIdempotentManual(handlers: readonly Handler[]): Problem[] {
  return handlers
    .filter(({ idempotency, consumption }) => idempotency !== undefined && consumption?.delivery === 'manual')
    .map(({ id }) => ({
      name: `@Idempotent() of ${id}`,
      expected: `delivery 'at-least-once' or 'at-most-once': the run's end must say whether the work is done`,
      given: `@Consume({ delivery: 'manual' })`,
    }));
}

/** A text that patterns of both take. Two wildcards are compared by their text alone. */
function shared(some: readonly Pattern[], others: readonly Pattern[]): string | undefined {
  for (const one of some) {
    for (const other of others) {
      if (overlaps(one, other) || overlaps(other, one)) {
        return one.kind === 'exact' ? one.text : other.text;
      }
    }
  }
  return undefined;
}

function overlaps(pattern: Pattern, other: Pattern): boolean {
  return pattern.text === other.text || (other.kind !== 'regexp' && matches(pattern, other.text));
}

/** A handler bounded beyond its transport would never reach its bound. */
export function refuseWideBounds(
  handlers: readonly Handler[],
  concurrency: number,
  transport: string,
): Problem[] {
  return handlers.flatMap(({ id, consumption }) => {
    const given = consumption?.concurrency;
    if (given === undefined || given <= concurrency) return [];
    return {
      name: `@Consume({ concurrency }) of ${id}`,
      expected: `at most ${concurrency}, the concurrency of the transport ${JSON.stringify(transport)}`,
      given: String(given),
    };
  });
}
