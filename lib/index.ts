export { StorkClient } from './nest/client/stork.client.js';
export type { ObjectPattern, StorkContract } from './nest/client/stork.client.js';
export { handlerIdPrefix } from './nest/server/handler-ids.js';
export { connectStork, storkMicroservice } from './nest/bootstrap/connect.js';
export type { ConnectStorkOptions, StorkMicroserviceOptions } from './nest/bootstrap/connect.js';
export { Consume } from './nest/decorators/consume.decorator.js';
export type { ConsumeOptions } from './nest/decorators/consume.decorator.js';
export { CorrelationInterceptor } from './nest/interceptors/correlation.interceptor.js';
export type { CorrelationOptions } from './nest/interceptors/correlation.interceptor.js';
export { DeadLetter } from './nest/decorators/dead-letter.decorator.js';
export { DeadLetterService } from './nest/dead-letter/dead-letter.service.js';
export type {
  DeadLetterDiscardQuery,
  DeadLetterListQuery,
  DeadLetterQuery,
  DeadLetterReplayQuery,
} from './nest/dead-letter/dead-letter.service.js';
export { Idempotent } from './nest/decorators/idempotent.decorator.js';
export type { IdempotentOptions } from './nest/decorators/idempotent.decorator.js';
export {
  DeadLetterInterceptor,
  IdempotencyInterceptor,
  RetryInterceptor,
} from './nest/interceptors/policy.interceptors.js';
export { Retry } from './nest/decorators/retry.decorator.js';
export { StorkContext } from './nest/context/stork.context.js';
export { getClientToken, InjectClient } from './nest/client/inject-client.decorator.js';
export type {
  NamedTransports,
  StorkModuleAsyncOptions,
  StorkModuleOptions,
  StorkOptionsFactory,
} from './nest/stork-options.js';
export type { CommonTransportOptions } from './nest/transport-options.js';
export { StorkRecord, StorkRecordBuilder } from './nest/client/record-builder.js';
export { StorkModule } from './nest/stork.module.js';
export { StorkService } from './nest/stork.service.js';
export type { TransportState } from './nest/stork.service.js';
export type { StorkEvents } from './nest/bootstrap/connection-events.js';
export type { TransportDefinition } from './nest/bootstrap/transport-definition.js';
export { Via, via } from './nest/decorators/via.decorator.js';
export type { CancelTimer, StorkClock } from './core/runtime/clock.js';
export type { CodecContext, MessageCodec } from './core/message/codec.js';
export type { ConnectionState } from './core/port/connection-state.js';
export type { InboundMessage } from './core/port/message.js';
export type { IdempotencyTimes } from './core/idempotency/idempotency-options.js';
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
} from './core/runtime/errors.js';
export type { ConfigProblem, ErrorEnvelope, StorkErrorOptions } from './core/runtime/errors.js';
export type { DeadLetterNotice, DeadLetterOptions } from './core/dead-letter/dead-letter-options.js';
export type {
  DeadLetterRecord,
  DeadLetterErrorInfo,
  DeadLetterReason,
} from './core/dead-letter/admin/dead-letter-record.js';
export type { DeadLetterFilter } from './core/dead-letter/admin/dead-letter-filter.js';
export type {
  DeadLetterStats,
  SkippedDeadLetter,
  DeadLetterProgress,
  DeadLetterReport,
} from './core/dead-letter/admin/dead-letter-operations.js';
export type { ErrorMatcher } from './core/retry/retry-options.js';
export type { RetryOptions } from './core/retry/retry-options.js';
export type { UnhandledRedelivery } from './core/consume/unhandled.js';
export type { FailureReason } from './core/runtime/failure.js';
export type { MessageHeaders, HeaderValue } from './core/message/headers.js';
export type { IdempotencyOptions } from './core/idempotency/idempotency-options.js';
export type {
  BeginOutcome,
  IdempotencyStore,
  IdempotencyStoreDefinition,
  IdempotencyStoreEnvironment,
  StoredReply,
} from './core/idempotency/idempotency-store.js';
export { memoryIdempotencyStore } from './core/idempotency/memory-idempotency-store.js';
export type { MemoryIdempotencyStoreOptions } from './core/idempotency/memory-idempotency-store.js';
export type { BackoffOptions } from './core/runtime/clock.js';
export type { CounterName } from './core/runtime/reporting.js';
export type { DeliveryMode } from './core/port/delivery.js';
export type { DeliveryOrder } from './core/port/driver.js';
export type { MessageDestination } from './core/port/message.js';
export type { MessageOptions } from './core/publish/outgoing-message.js';
