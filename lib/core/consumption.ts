import type { DeliveryMode, DeliveryOrder, SubscribedPattern } from './driver.js';
import type { Problem } from './errors.js';
import type { Handler } from './handler-table.js';

/** How a handler wants its messages; what it does not say is the default. */
export interface ConsumptionWishes {
  readonly order?: DeliveryOrder | undefined;
  readonly delivery?: DeliveryMode | undefined;
}

const defaultOrder: DeliveryOrder = 'key';
const defaultDelivery: DeliveryMode = 'at-least-once';

/** Each pattern once for each way in which handlers want it; where that is more than one, `findDisagreements` says so. */
export function subscribedPatterns(handlers: readonly Handler[]): SubscribedPattern[] {
  const patterns = new Map<string, SubscribedPattern & { places: string[] }>();
  for (const { id, patterns: wanted, consumption } of handlers) {
    const { order = defaultOrder, delivery = defaultDelivery } = consumption ?? {};
    for (const pattern of wanted) {
      const name = JSON.stringify([pattern.text, order, delivery]);
      const known = patterns.get(name) ?? { ...pattern, order, delivery, places: [] };
      patterns.set(name, known);
      known.places.push(id);
    }
  }
  return [...patterns.values()];
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
