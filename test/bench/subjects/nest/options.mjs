import { Transport } from '@nestjs/microservices';
import { prefetch, quorum } from '../../queues.mjs';

/** Nest's own transport, as its documentation sets it up; without `noDelay` it would be far slower one at a time. */
export function rmq(url, queue, more = {}) {
  const socketOptions = { connectionOptions: { noDelay: true } };
  const options = {
    urls: [url],
    queue,
    queueOptions: quorum,
    prefetchCount: prefetch,
    socketOptions,
    ...more,
  };
  return { transport: Transport.RMQ, options };
}
