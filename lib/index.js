export { StorkClient } from './nest/client.js';
export { connectStork, storkMicroservice } from './nest/connect.js';
export { Consume } from './nest/consume.decorator.js';
export { StorkContext } from './nest/context.js';
export { getClientToken, InjectClient } from './nest/inject-client.decorator.js';
export { StorkRecord, StorkRecordBuilder } from './nest/record-builder.js';
export { StorkModule } from './nest/stork.module.js';
export { StorkService } from './nest/stork.service.js';
export { Via, via } from './nest/via.js';
export {
  ClientClosedError,
  ConnectionLostError,
  isStorkError,
  NoRouteError,
  PublishRejectedError,
  PublishUnconfirmedError,
  RemoteError,
  RequestTimeoutError,
  StorkConfigError,
  StorkError,
  TooManyPendingError,
} from './core/errors.js';
