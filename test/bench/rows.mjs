/**
 * What is compared. The subject of a row lies in `subjects/<name>/<module>.mjs`; ours is `stork`. On a broker everybody gets the same:
 * quorum queue, prefetch 500, 250 bytes of JSON, `noDelay`. Ours runs with every default policy.
 */
export const rows = [
  {
    name: 'rabbitmq-events',
    module: 'rabbitmq-events',
    against: ['raw-amqplib', 'nest', 'golevelup'],
    needsBroker: true,
    messages: 40_000,
    what: 'preloaded; from the first handled to the last; prefetch 500, ours with concurrency 100',
  },
  {
    name: 'rabbitmq-publish',
    module: 'rabbitmq-publish',
    against: ['raw-amqplib'],
    needsBroker: true,
    messages: 20_000,
    inFlight: 500,
    what: 'mandatory and confirmed, 500 in flight',
  },
  {
    name: 'rabbitmq-rpc',
    module: 'rabbitmq-rpc',
    against: ['raw-amqplib', 'nest'],
    needsBroker: true,
    messages: 10_000,
    inFlight: 100,
    what: '100 in flight; ours and raw confirm and acknowledge everything, Nest nothing',
  },
  {
    name: 'rabbitmq-rpc-serial',
    module: 'rabbitmq-rpc',
    against: ['raw-amqplib', 'nest'],
    needsBroker: true,
    messages: 1_000,
    inFlight: 1,
    what: 'one at a time; ours and raw confirm and acknowledge everything, Nest nothing',
  },
  {
    name: 'pipeline',
    module: 'pipeline',
    against: ['nest-handler'],
    needsBroker: false,
    showsDelta: true,
    messages: 50_000,
    what: 'one handler with one pass-through interceptor: on the memory driver, preloaded; called bare',
  },
];
