import type { Provider } from '@nestjs/common';
import type { ConfigProblem } from '../../core/runtime/errors.js';
import { printable } from '../../core/message/text.js';
import { STORK_HANDLER_ID_PREFIX } from '../stork.constants.js';
import type { DecoratedMethod } from './decorated-method.js';

/**
 * A provider that begins the ids of all handlers of its module with `<prefix>.`. A dynamic module that is
 * imported several times needs one for each import: every import handles each event, and retries, dead
 * letters and idempotency keys name a handler by its id, also after a restart. It must therefore be the same
 * in every process, and stay the same while such messages exist.
 *
 * @example
 * ```ts
 * static register(region: string): DynamicModule {
 *   return { module: StockModule, controllers: [StockController], providers: [handlerIdPrefix(region)] };
 * }
 * ```
 *
 * @publicApi
 */
export function handlerIdPrefix(prefix: string): Provider {
  return { provide: STORK_HANDLER_ID_PREFIX, useValue: prefix };
}

/**
 * Qualifies the ids that several handlers share by the class names of their modules. Imports of one dynamic
 * module have no name that is stable across processes, so only modules of different classes are qualified.
 */
export function qualifySharedIds(methods: readonly DecoratedMethod[]): readonly DecoratedMethod[] {
  const byId = new Map<string, DecoratedMethod[]>();
  for (const method of methods) {
    if (!method.isForeign) byId.set(method.id, [...(byId.get(method.id) ?? []), method]);
  }
  return methods.map((method) => {
    const others = (byId.get(method.id) ?? []).filter((other) => other !== method);
    const { module, id, name } = method;
    return !method.isForeign && others.some((other) => mayBeQualified(method, other))
      ? { ...method, id: `${module.name}.${id}`, name: `${module.name}.${name}` }
      : method;
  });
}

/** An id that `@Consume()` gives to two different methods is a mistake. */
function mayBeQualified(method: DecoratedMethod, other: DecoratedMethod): boolean {
  const isGiven = method.consume?.id !== undefined && !isSameMethod(method, other);
  return !isGiven && method.module.name !== other.module.name;
}

export function duplicateIds(methods: readonly DecoratedMethod[]): ConfigProblem[] {
  const seen = new Map<string, DecoratedMethod>();
  return methods.flatMap((method) => {
    const other = seen.get(method.id);
    seen.set(method.id, method);
    if (other === undefined) return [];
    return {
      name: `handler id of ${method.name}`,
      expected: isSameMethod(method, other)
        ? `an id for each ${method.module.name} that is imported; handlerIdPrefix() among its providers sets one`
        : 'an id of its own; @Consume({ id }) sets one',
      given: `${JSON.stringify(method.id)}, which ${other.name} has too`,
    };
  });
}

export function invalidPrefixes(methods: readonly DecoratedMethod[]): ConfigProblem[] {
  const modules = new Set(methods.map(({ module }) => module));
  return [...modules].flatMap(({ name, idPrefix }) =>
    idPrefix === undefined || (typeof idPrefix === 'string' && idPrefix !== '')
      ? []
      : {
          name: `handlerIdPrefix() of ${name}`,
          expected: 'text that is not empty',
          given: printable(idPrefix),
        },
  );
}

function isSameMethod(method: DecoratedMethod, other: DecoratedMethod): boolean {
  return method.controller === other.controller && method.name === other.name;
}
