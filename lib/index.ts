export { StorkClient } from './nest/client.js';
export type { AnyContract, ObjectPattern, StorkContract } from './nest/client.js';
export { connectStork, storkMicroservice } from './nest/connect.js';
export type { ConnectStorkOptions } from './nest/connect.js';
export { Consume } from './nest/consume.decorator.js';
export type { ConsumeOptions } from './nest/consume.decorator.js';
export { CorrelationInterceptor } from './nest/correlation.interceptor.js';
export type { CorrelationOptions } from './nest/correlation.interceptor.js';
export { DeadLetter } from './nest/dead-letter.decorator.js';
export { DeadLetterService } from './nest/dead-letter.service.js';
export type {
  DeadLetterDiscardQuery,
  DeadLetterListQuery,
  DeadLetterQuery,
  DeadLetterReplayQuery,
} from './nest/dead-letter.service.js';
export { Idempotent } from './nest/idempotent.decorator.js';
export type { IdempotentOptions } from './nest/idempotent.decorator.js';
export { DeadLetterInterceptor, IdempotencyInterceptor, RetryInterceptor } from './nest/interceptors.js';
export { Retry } from './nest/retry.decorator.js';
export { StorkContext } from './nest/context.js';
export { getClientToken, InjectClient } from './nest/inject-client.decorator.js';
export type {
  CommonTransportOptions,
  StorkModuleAsyncOptions,
  StorkModuleOptions,
  StorkOptionsFactory,
} from './nest/options.js';
export { StorkRecord, StorkRecordBuilder } from './nest/record-builder.js';
export { StorkModule } from './nest/stork.module.js';
export { StorkService } from './nest/stork.service.js';
export type { TransportState } from './nest/stork.service.js';
export type { TransportDefinition } from './nest/transport-definition.js';
export { Via, via } from './nest/via.js';
export type { CancelTimer, Clock } from './core/clock.js';
export type { Codec } from './core/codec.js';
export type { ConnectionState } from './core/connection-state.js';
export {
  BufferFullError,
  ClientClosedError,
  ConnectionLostError,
  HandlerTimeoutError,
  isStorkError,
  MessageTooLargeError,
  NoRouteError,
  PublishRejectedError,
  PublishUnconfirmedError,
  RemoteError,
  RequestTimeoutError,
  StoreFullError,
  StoreUnavailableError,
  StorkConfigError,
  StorkError,
  TooManyPendingError,
} from './core/errors.js';
export type { Problem } from './core/errors.js';
export type { DeadLetterNotice, DeadLetterOptions } from './core/dead-letter-options.js';
export type { DeadLetter as StoredDeadLetter, LetterError, LetterReason } from './core/letter.js';
export type { DeadLetterFilter } from './core/letter-filter.js';
export type { DeadLetterStats, KeptLetter, LetterProgress, LetterReport } from './core/letter-work.js';
export type { ErrorMatcher } from './core/error-matcher.js';
export type { RetryOptions } from './core/retry-options.js';
export type { DeathReason } from './core/failure.js';
export type { Headers, HeaderValue } from './core/headers.js';
export type { IdempotencyOptions } from './core/idempotency-policy.js';
export type { BeginOutcome, IdempotencyStore, StoredReply } from './core/idempotency.js';
export { memoryIdempotencyStore } from './core/memory-idempotency-store.js';
export type { MemoryIdempotencyStoreOptions } from './core/memory-idempotency-store.js';
export type { Destination } from './core/message.js';
export type { MessageOptions } from './core/outbound.js';
