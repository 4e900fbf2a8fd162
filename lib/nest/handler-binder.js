import { patternFromRegExp, patternFromString } from '../core/pattern.js';
import { checkConsume } from './consume.decorator.js';
/** Joins the patterns of one method: Nest binds each by itself. Methods of foreign transports are left out. */
export function groupByMethod(joined, normalize) {
  const methods = new Map();
  for (const { method, binding } of joined) {
    if (method.isForeign) continue;
    const { handler, isEvent } = binding;
    const bound = methods.get(method) ?? { method, handler, isEvent, patterns: [] };
    methods.set(method, bound);
    bound.patterns.push(toPattern(binding.pattern, normalize));
  }
  return [...methods.values()];
}
function toPattern(pattern, normalize) {
  // Nest's own normalising would make `{}` of it.
  if (pattern instanceof RegExp) return patternFromRegExp(pattern);
  if (typeof pattern === 'string') return patternFromString(pattern);
  return { text: normalize(pattern), kind: 'exact' };
}
/** What is wrong with the handlers as a whole. */
export function checkMethods(methods, registry) {
  return [
    ...methods.flatMap(({ method }) => problemsOfConsume(method)),
    ...unknownNames(methods, registry),
    ...doubleIds(methods),
    ...doubleMessagePatterns(methods, registry),
  ];
}
/** The methods that one transport serves. */
export function methodsOn(name, methods, registry) {
  const which = registry.handlersOn(name);
  if (which === 'none') return [];
  return methods.filter(({ method: { transports } }) =>
    transports === undefined ? which === 'all' : transports.includes(name),
  );
}
export function toHandler({ method, isEvent, patterns }, run) {
  const handler = { id: method.id, kind: isEvent ? 'event' : 'message', patterns, run };
  // What is wrong is told once, by its name, and not by all that follows from it.
  if (method.consume === undefined || problemsOfConsume(method).length > 0) return handler;
  return { ...handler, consumption: method.consume };
}
function problemsOfConsume({ consume, place }) {
  return consume === undefined ? [] : checkConsume(consume, place);
}
function unknownNames(methods, registry) {
  return methods.flatMap(({ method }) =>
    (method.transports ?? [])
      .filter((name) => !registry.names.includes(name))
      .map((name) => ({
        name: `via() of ${method.place}`,
        expected: `one of the transports ${registry.names.join(', ')}`,
        given: JSON.stringify(name),
      })),
  );
}
function doubleIds(methods) {
  const seen = new Map();
  return methods.flatMap((bound) => {
    const other = seen.get(bound.method.id);
    seen.set(bound.method.id, bound);
    if (other === undefined) return [];
    return {
      name: `handler id of ${bound.method.place}`,
      expected: 'an id of its own; @Consume({ id }) sets one',
      given: `${JSON.stringify(bound.method.id)}, which ${other.method.place} has too`,
    };
  });
}
/** A request has one answer, so one handler; Nest would take the last one and say nothing. */
function doubleMessagePatterns(methods, registry) {
  return registry.names.flatMap((name) => {
    const seen = new Map();
    return methodsOn(name, methods, registry)
      .filter(({ isEvent }) => !isEvent)
      .flatMap(({ method, patterns }) =>
        patterns.flatMap(({ text }) => {
          const other = seen.get(text);
          seen.set(text, method.place);
          if (other === undefined) return [];
          return {
            name: `@MessagePattern(${JSON.stringify(text)}) of ${method.place}`,
            expected: `one message handler for a pattern on the transport ${JSON.stringify(name)}`,
            given: `${other} answers it too`,
          };
        }),
      );
  });
}
