/** A guarantee of the library, with the tests that fail if it does not hold. */
export interface Guarantee {
  readonly what: string;
  /** File below `test/` → titles of tests in it. */
  readonly tests: Readonly<Record<string, readonly string[]>>;
}

const retry = 'contract/suite/retry.ts';
const idempotency = 'contract/suite/idempotency.ts';
const replay = 'contract/suite/replay.ts';
const failures = 'contract/suite/failures.ts';
const requests = 'contract/suite/requests.ts';
const modes = 'contract/suite/delivery-modes.ts';
const loss = 'contract/suite/loss.ts';
const waiting = 'contract/suite/waiting.ts';
const concurrency = 'contract/suite/concurrency.ts';
const interleavings = 'unit/core/interleavings.spec.ts';
const disturbances = 'contract/suite/disturbances.ts';
const kills = { rabbitmq: 'e2e/kills/rabbitmq.spec.ts', kafka: 'e2e/kills/kafka.spec.ts' };

export const guarantees: readonly Guarantee[] = [
  {
    what: 'At least once: acknowledged after the handler and after any reply, retry or dead letter is confirmed',
    tests: {
      [loss]: [
        'redelivers what was unsettled when the connection was lost, and drops the late settlement',
        'redelivers what a consumer left unsettled to another consumer',
      ],
      [disturbances]: ['loses nothing when connections are lost at random moments'],
      [kills.rabbitmq]: [
        'loses nothing and repeats no more than was in flight: %s',
        'loses no dead letter, and duplicates no more than were in flight: dead-letter-published',
      ],
      [kills.kafka]: [
        'loses nothing and repeats only what was settled since the last commit: %s',
        'loses no dead letter, and duplicates only those that failed since the last commit: dead-letter-published',
      ],
    },
  },
  {
    what: 'At most once: settled before the handler starts; retried in process, never redelivered',
    tests: {
      [modes]: [
        'settles the message before its handler starts',
        'retries in process, then dead-letters the message; it is never redelivered',
        'neither repeats nor aborts a handler when the connection is lost, and dead-letters the message if it fails',
        'dead-letters what its handler nacks: an acknowledged message cannot be requeued',
      ],
      'e2e/nest/policies.spec.ts': ['ignores redeliverDelaysMs under at-most-once'],
    },
  },
  {
    what: 'Manual: settled once, by the handler',
    tests: {
      [modes]: [
        'settles on ack() after the handler has returned; its key and its concurrency slot are free',
        'requeues unsettled messages at shutdown; a later ack or nack has no effect',
      ],
      [interleavings]: [
        'is settled once by a manual handler, whenever it decides, and returned if it does not',
      ],
    },
  },
  {
    what: 'Several handlers of an event: settled independently; one that has succeeded runs again only after a loss',
    tests: {
      [failures]: [
        'settles several handlers of one event independently: one dead letter for each that failed',
      ],
      [retry]: ['retries only the handler that failed, of several handlers'],
      [waiting]: [
        'does not run again a handler that is done when a shutdown interrupts the back-off of another',
      ],
      [interleavings]: [
        'is settled once, for each of its two handlers',
        'is neither lost nor repeated by a shutdown, and returns for its unfinished handlers',
        'is not lost with its session, and what was settled is not repeated',
        'is not lost by losses and shutdowns that overlap',
      ],
    },
  },
  {
    what: 'Order: per key within a process, by default; of a whole queue with concurrency 1',
    tests: {
      [concurrency]: [
        "handles a queue in the order of publishing, and a log each key, with concurrency 1 and order 'none'",
        'handles messages of one key one after another, in order, while other keys continue',
        'does not let a slow key delay another key',
      ],
      [retry]: ['keeps the order of a key during back-off, and delays no other key'],
    },
  },
  {
    what: 'Nothing configured: three in-process retries, then the dead letter queue',
    tests: {
      [retry]: ['attempts a handler four times and then dead-letters the message, with nothing configured'],
    },
  },
  {
    what: 'Broker unavailable: messages wait or fail by a bounded buffer; consumers reconnect by themselves',
    tests: {
      [loss]: ['reconnects after a lost connection: consuming, publishing, requests'],
      'e2e/rabbitmq/publish.spec.ts': [
        'buffers publishes while the broker is unavailable, in order and up to the limit',
      ],
      'e2e/kafka/produce-loss.spec.ts': [
        'buffers up to its limit while the broker is unavailable, and confirms all in order when it is back',
      ],
    },
  },
  {
    what: 'Retry: numbered attempts, in process first, then through the broker; never early, at most a second late',
    tests: {
      [retry]: [
        'retries a handler until it succeeds, each attempt with its number',
        'redelivers after each delay, never early, the same message',
        'redelivers to the handler that failed, and to no other',
      ],
    },
  },
  {
    what: 'Retry: neither a restart nor a rebalance resets the attempts counted on the message',
    tests: {
      [retry]: ['continues counting attempts after a restart'],
      'e2e/kafka/retry-topics.spec.ts': [
        'a restart resets neither the due time nor the attempt number',
        'a rebalance changes nothing for waiting records',
      ],
    },
  },
  {
    what: 'Retry: a long delay delays neither the source nor a shorter delay',
    tests: {
      [retry]: ['delays neither the source nor a shorter delay'],
      'e2e/rabbitmq/retry-delays.spec.ts': [
        'of a second and of a minute at once: never early, at most a second late, and no message is delayed by another',
      ],
      'e2e/kafka/retry-delays.spec.ts': [
        'of a second and of a minute at once: never early, at most a second late, and no message is delayed by another',
      ],
    },
  },
  {
    what: 'Retry: a failure that is fatal, by its kind or by failOn, is attempted once; deliberate error answers are no failures',
    tests: {
      [retry]: [
        'attempts a fatal failure once and records the reason: %s',
        'never retries what validation or a guard has refused; a guard that throws is an ordinary failure',
        'sends a deliberate error answer at once and creates no dead letter, unless retryOn names it',
      ],
    },
  },
  {
    what: 'Retry: back-off ends at once on shutdown and on loss of the channel or partition, and the message is requeued uncounted',
    tests: {
      [retry]: [
        'ends the back-off at shutdown; the message stays in its source, the attempt uncounted',
        'ends the back-off when the connection is lost, and the message is redelivered',
      ],
    },
  },
  {
    what: 'Retry: no attempt starts later than maxElapsedMs after the first failure',
    tests: {
      [retry]: ['starts no attempt %s later than maxElapsedMs after the first failure'],
    },
  },
  {
    what: 'Waiting: a message in back-off, nacked or without its store keeps its key and gives its slot back; few wait',
    tests: {
      [waiting]: [
        'gives the slot of a message in back-off to messages of other keys, and keeps the order of its key',
        'gives the slot of a nacked message to other keys while it waits',
        'delays the next message of its key while a nacked message waits; a log keeps their order',
        'starts no further message while %s wait, and dead-letters none of the backlog',
      ],
      [idempotency]: [
        'gives the slot of a message that waits for the store to other keys, and counts no requeue',
      ],
    },
  },
  {
    what: 'Waiting: nacked as often as deliveryLimit allows, then a dead letter; waiting for a store is not counted',
    tests: {
      [waiting]: [
        'requeues a message that its handler nacks as often as deliveryLimit allows, then dead-letters it',
      ],
      [idempotency]: [
        'gives the slot of a message that waits for the store to other keys, and counts no requeue',
      ],
    },
  },
  {
    what: 'Retry: onRetry gets the actual delay, and an exception in it changes nothing',
    tests: {
      [retry]: [
        'passes the failed attempt, the error and the delay to onRetry; an exception there changes nothing',
      ],
    },
  },
  {
    what: 'Timeouts: a failure like any other; the dead letter has the reason; the key waits for the aborted attempt',
    tests: {
      'contract/suite/time-limits.ts': [
        'aborts an attempt that exceeds timeoutMs, each with its own signal, and dead-letters the message with the reason timeout',
        'retries after a timeout; a message that then succeeds is handled',
        'delays the next message of its key until the timed-out attempt has ended',
      ],
    },
  },
  {
    what: "Retry: in-process waits beyond the broker's consumer timeout are refused at boot, with the numbers",
    tests: {
      'e2e/nest/policies.spec.ts': [
        "refuses in-process waits beyond the broker's consumer timeout, with the numbers",
      ],
    },
  },
  {
    what: 'Every queue has a delivery limit, and messages beyond it are dead-lettered where they can be replayed',
    tests: {
      'e2e/rabbitmq/dead-letters-write.spec.ts': [
        'of a frame on which amqplib throws a $error are created by the delivery limit, while healthy messages are handled',
      ],
      'e2e/rabbitmq/restarts.spec.ts': [
        '25 times with 50 messages in flight dead-letters none of them and loses none',
      ],
      'e2e/rabbitmq/dead-letters-broker.spec.ts': [
        '$reason are shown with their reason, and go back with the pattern they had',
      ],
    },
  },
  {
    what: 'Dead letter: body and headers unchanged, stork headers added within a byte budget, whatever was thrown',
    tests: {
      [failures]: [
        'dead-letters the message of a failing event handler with its bytes, its headers and the reason',
        'survives every kind of thrown value, and still dead-letters the message',
        'dead-letters a message of 200 headers whose handler throws 1 MB',
        'treats invalid values in stork headers as absent',
      ],
      'e2e/rabbitmq/dead-letters-write.spec.ts': [
        'of a message with $what are written, and the source goes on',
      ],
      'e2e/rabbitmq/hostile-headers.spec.ts': [
        'stop nothing on a %s queue: every hostile message is dead-lettered, the others are handled',
        'are the only ones that a copy leaves out: $name',
        'leave a request its answer after a retry',
      ],
      'e2e/kafka/hostile.spec.ts': ['keeps key, body and its own headers in a dead letter, byte for byte'],
    },
  },
  {
    what: 'Dead letter: while it cannot be written the message waits, nothing is dropped, and writing resumes by itself',
    tests: {
      'e2e/rabbitmq/dead-letters-write.spec.ts': [
        'are written again after their queue was deleted',
        'wait while their queue refuses them, and are written when it accepts them again',
      ],
      'e2e/kafka/hostile.spec.ts': [
        'that exceeds the limit of the dead letter topic stays in its partition and blocks no other',
      ],
    },
  },
  {
    what: 'Dead letter: requests are dead-lettered only if enabled; undecodable ones are dead-lettered and answered',
    tests: {
      [retry]: [
        'answers with the error when no attempt is left, and creates no dead letter',
        'dead-letters a failed request too if @DeadLetter() or the module enables it',
      ],
      [requests]: ['answers an undecodable request, and dead-letters it'],
      [idempotency]: [
        '%s: a request whose handler fails twice gets three attempts and a reply, and leaves no dead letter',
        '%s: a request that always fails gets four attempts and an error, and leaves %i dead letters',
      ],
    },
  },
  {
    what: 'Dead letter: secrets are redacted',
    tests: {
      [retry]: ['redacts, leaves out the stack, and calls onDeadLetter once the dead letter is stored'],
      [failures]: [
        'applies redact and onDeadLetter of the transport and the module to messages that no handler gets',
        'applies redact of a global interceptor to messages that no handler gets',
      ],
    },
  },
  {
    what: 'Browsing dead letters loses, settles and reorders nothing',
    tests: {
      [replay]: ['lists dead letters oldest first, repeatedly, and changes nothing'],
      'e2e/rabbitmq/dead-letters.spec.ts': [
        'lists %i dead letters in the same order 50 times, and moves none',
      ],
      'e2e/kafka/dead-letters.spec.ts': [
        'lists the dead letters of a failing handler, the same each time, and commits nothing',
      ],
    },
  },
  {
    what: 'Replay: reaches only the queue or group, and the handler, that failed; attempts start at 1',
    tests: {
      [replay]: [
        'replays each once, in order, unchanged, and its attempts start at 1',
        'replays to the handler that failed, and to no other handler of the event',
      ],
      'e2e/rabbitmq/dead-letters.spec.ts': [
        'replays only to the queue that failed, though an exchange routes to two, and attempts start at 1',
      ],
      'e2e/kafka/retry-topics.spec.ts': [
        'the one of 0 ms is handled at once, by the handler that the record names and by no other group',
      ],
    },
  },
  {
    what: 'Replay: a dry run by default, bounded, resumable, with a limit on repeated replays',
    tests: {
      [replay]: [
        'reports what it would do, and does nothing unless dryRun is false',
        'skips a dead letter that was replayed maxReplays times',
        'stops when signal aborts, and what was replayed stays replayed',
        'respects rate',
      ],
      'e2e/kafka/dead-letters.spec.ts': [
        'replays each dead letter exactly once, whenever its process is killed',
      ],
      'e2e/rabbitmq/dead-letters-loss.spec.ts': [
        'loses nothing if the connection is cut during a replay, and duplicates at most the $window in flight',
      ],
      'e2e/cli.e2e.spec.ts': [
        'killed during a replay and run again, it loses nothing and duplicates at most one dead letter',
        'killed during a replay and run again, it neither loses nor duplicates a dead letter',
      ],
    },
  },
  {
    what: 'Idempotency: a duplicate is settled without calling the handler, and a request gets the same reply',
    tests: {
      [idempotency]: [
        'handles a message that is delivered twice once, and settles the second',
        'answers a duplicate with the same reply without calling the handler',
        'repeats a reply unchanged: bytes, text, null, nothing',
        'handles nothing twice after a restart if the store persists',
      ],
      [kills.rabbitmq]: ['handles no message again that the store has marked as done: begun'],
      [kills.kafka]: ['handles no record again that the store has marked as done: begun'],
    },
  },
  {
    what: 'Idempotency: a duplicate of an attempt in progress waits, and is never settled as done',
    tests: {
      [idempotency]: [
        'keeps a duplicate waiting, uncounted, and never settles it before the first is done',
        'renews the lease while the handler runs, and not after it',
        'makes a duplicate wait for the reply of the attempt in progress',
      ],
    },
  },
  {
    what: "Idempotency: the key is the handler's own, of the message id, the request's id or a function",
    tests: {
      [idempotency]: [
        "uses the key of the handler's options",
        'fails the attempt whose key %s',
        'keeps several handlers of one event apart, each with its own key',
      ],
    },
  },
  {
    what: 'Idempotency: a failed or retried attempt releases its key; error replies are not stored',
    tests: {
      [idempotency]: [
        'handles a message again after a failure, by the retry policy and by a duplicate',
        'handles a message again after ctx.%s',
        'stores no error: the next request is handled',
      ],
    },
  },
  {
    what: 'Idempotency: without its store a message waits, or is handled, as onStoreError says',
    tests: {
      [idempotency]: [
        'keeps messages waiting until the store has recovered',
        'handles messages without the store if the handler allows it',
      ],
      'e2e/redis/faults.spec.ts': [
        'is killed and started again: rejects with a named error meanwhile, queues no command, keeps stored keys',
        'that is out of memory: rejects with a named error, writes nothing, and still renews and releases',
      ],
    },
  },
  {
    what: 'Requests: no route fails at once, late replies are counted, errors have names, forged reply addresses get no reply',
    tests: {
      [requests]: [
        'rejects a request to a destination that does not exist at once',
        'times out when no reply arrives in time, and counts the late reply',
        'distinguishes deliberate error answers from failures',
        'sends no reply to a forged reply address, and dead-letters the message',
      ],
    },
  },
  {
    what: 'Requests: an expired one is not handled, a lost connection leaves none pending, streams end',
    tests: {
      [requests]: [
        'drops a request whose deadline passed before its handler started',
        "serves Nest's send() with a value, a record and a stream",
        'answers with an error if a stream fails or a result cannot be encoded',
        'handles a request whose caller is gone and counts the undeliverable reply',
      ],
      [loss]: [
        'neither hangs nor times out a request that was pending when the connection was lost',
        'ends a streamed reply whose request was lost, and frees its concurrency slot',
      ],
    },
  },
  {
    what: 'Correlation: what a handler sends continues the correlation of its message, in every application of a process',
    tests: {
      'contract/suite/correlation.ts': [
        'continues in what a handler sends: from promises and streams, events and requests',
        'is kept apart for messages that are handled concurrently',
      ],
      'e2e/nest/side-by-side.spec.ts': [
        'keep the correlation contexts of their handlers apart',
        '%s sends the ids of the message from the first one on',
      ],
    },
  },
  {
    what: 'Concurrency: at most that many handlers at once',
    tests: {
      [concurrency]: [
        'calls no more handlers at once than concurrency allows, and holds a bounded number of messages',
      ],
      'contract/suite/consumption.ts': [
        'limits a handler to its own concurrency without delaying other handlers',
      ],
    },
  },
  {
    what: 'Shutdown: waits for running handlers, aborts the rest in time and requeues their messages; ends within drainTimeoutMs',
    tests: {
      [loss]: [
        'waits at shutdown for running handlers and settles their messages',
        'aborts handlers that exceed the drain timeout and loses nothing',
        'ends a shutdown within drainTimeoutMs although a handler never ends; its message comes again',
        'drains on demand, once: takes no further message, settles what is running, and keeps publishing',
        'refuses to send once closed, and rejects pending requests',
      ],
      'e2e/nest/shutdown.spec.ts': [
        'of 20 s by default, also if everything hangs on every transport, by close() and by a signal',
      ],
      [disturbances]: ['loses and repeats nothing when applications are restarted at random moments'],
      'e2e/nest/lifecycle.spec.ts': [
        'shortens a running drain by StorkService.drain({ timeoutMs: 0 })',
        'can be closed twice and at once',
        'drains before the database of a %s module is closed (stork global: %s, imported first: %s)',
      ],
    },
  },
  {
    what: 'Never silently dead: consumers recover from closed channels and deleted queues and topics',
    tests: {
      'e2e/rabbitmq/server-loss.spec.ts': [
        'recovers when the broker closes the channel because of consumer_timeout',
      ],
      'e2e/rabbitmq/loss.spec.ts': [
        'of the queue under a running consumer declares it again, whatever is being settled',
      ],
      'e2e/kafka/topics-gone.spec.ts': [
        'one is deleted and created again with %s in it: read from its beginning, the other continues',
      ],
    },
  },
  {
    what: 'Hostile input: an error and a dead letter, never a crash',
    tests: {
      [failures]: [
        'dead-letters a message that cannot be decoded: %s',
        'dead-letters a body above maxBodyBytes without decoding it',
      ],
      'e2e/rabbitmq/requests.spec.ts': [
        'and events of other clients are read whatever the types of their properties',
      ],
      'e2e/kafka/hostile.spec.ts': [
        'in a body becomes a dead letter with its bytes, and the partition continues',
      ],
    },
  },
];
