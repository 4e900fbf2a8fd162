/**
 * Applies decorators as compiled TypeScript does; plain JavaScript has no syntax for them. `methods` holds
 * the decorators of each method and of its parameters, in order.
 */
export function decorate(Class, decorators, methods = {}) {
  for (const [name, { on, parameters = [] }] of Object.entries(methods)) {
    const descriptor = Object.getOwnPropertyDescriptor(Class.prototype, name);
    parameters.forEach((decorator, i) => decorator(Class.prototype, name, i));
    for (const decorator of on) decorator(Class.prototype, name, descriptor);
  }
  for (const decorator of decorators) decorator(Class);
  return Class;
}
