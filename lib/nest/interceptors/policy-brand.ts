/** Marks the classes of the interceptors for every copy of this package; subclasses inherit it. */
export const policyBrand: unique symbol = Symbol.for('nestjs-stork.policy-interceptor') as never;

export type InterceptedPolicy = 'retry' | 'dead-letter' | 'idempotency' | 'correlation';

/** The policy of an interceptor's class; undefined if it is of the application or of another library. */
export function policyOfClass(type: unknown): InterceptedPolicy | undefined {
  if (typeof type !== 'function' || !(policyBrand in type)) return undefined;
  return type[policyBrand] as InterceptedPolicy;
}
