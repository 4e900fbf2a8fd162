export { idempotencyStoreSuite } from './idempotency-store-suite.js';
export type { IdempotencyStoreSuiteOptions, SuiteTest } from './idempotency-store-suite.js';
