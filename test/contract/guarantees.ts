/** What the library promises, each with tests that fail where it does not hold. */
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
const kills = { rabbitmq: 'e2e/kills/rabbitmq.spec.ts', kafka: 'e2e/kills/kafka.spec.ts' };

export const guarantees: readonly Guarantee[] = [
  {
    what: 'At least once: acknowledged after the handler and after any reply, retry or dead letter is confirmed',
    tests: {
      [loss]: [
        'delivers again what was unsettled when the connection broke, and drops the late settlement',
        'gives what a consumer left unsettled to another one',
      ],
      [kills.rabbitmq]: [
        'loses nothing and repeats no more than was in flight: %s',
        'keeps every letter, and no more of them twice than were in flight: letter-published',
      ],
      [kills.kafka]: [
        'loses nothing and repeats only what was settled since the last commit: %s',
        'keeps every letter, and only those twice that failed since the last commit: letter-published',
      ],
    },
  },
  {
    what: 'At most once: settled before the handler runs; retried in place, never redelivered',
    tests: {
      [modes]: [
        'settles the message before its handler runs',
        'does not repeat what runs when the connection breaks, lets it go on, and keeps it where it fails',
        'keeps what its handler gives back: it has no way back',
      ],
      'e2e/nest/policies.spec.ts': ['leaves redeliveries out where a message has no way back'],
    },
  },
  {
    what: 'Manual: settled once, by the handler',
    tests: {
      [modes]: [
        'settles when the handler says so, though it has returned long ago; its lane and its slot are free',
        'gives back at shutdown what nobody has settled; a verb afterwards does nothing',
      ],
    },
  },
  {
    what: 'Order: per key within a process, by default',
    tests: {
      'contract/suite/concurrency.ts': [
        'handles messages of one key one after another, in order, while other keys go on',
        'does not let a slow key hold up another one',
      ],
      [retry]: ['keeps the order of a key while it waits, and holds up no other'],
    },
  },
  {
    what: 'Nothing configured: three further runs in place, then the dead letter queue',
    tests: { [retry]: ['runs a handler four times and then keeps the message, where nothing is configured'] },
  },
  {
    what: 'Broker away: messages wait or fail by a bounded buffer; consumers come back by themselves',
    tests: {
      [loss]: ['comes back by itself after a broken connection: consuming, publishing, asking'],
      'e2e/rabbitmq/publish.spec.ts': [
        'keeps what is sent while the broker is away, in order and within the bound',
      ],
      'e2e/kafka/produce-loss.spec.ts': [
        'holds as many as it may while the broker is away, and confirms all of them in order when it is back',
      ],
    },
  },
  {
    what: 'Retry: one chain of numbered runs, in place first, then through the broker; never early, at most a second late',
    tests: {
      [retry]: [
        'runs a handler again until it succeeds, each run with its number',
        'comes back after each delay, never early, and is the same message',
        'brings it back to the handler that failed, and to no other',
      ],
    },
  },
  {
    what: 'Retry: neither a restart nor a rebalance resets what is counted on the message',
    tests: {
      [retry]: ['goes on with its number after a restart'],
      'e2e/kafka/retry-topics.spec.ts': [
        'a restart resets neither the due time nor the number of the run',
        'a rebalance changes nothing for what waits',
      ],
    },
  },
  {
    what: 'Retry: a long delay holds up neither the source nor a shorter one',
    tests: {
      [retry]: ['holds up neither the source nor a shorter delay'],
      'e2e/rabbitmq/retry-delays.spec.ts': [
        'of a second and of a minute at once: never early, at most a second late, and nothing is held up',
      ],
      'e2e/kafka/retry-delays.spec.ts': [
        'of a second and of a minute at once: never early, at most a second late, and nothing is held up',
      ],
    },
  },
  {
    what: 'Retry: fatal by nature, or by failOn, runs once; deliberate answers are no failures',
    tests: {
      [retry]: [
        'runs once what no run can mend, and says so: %s',
        'never runs again what validation or a guard has refused; a guard that fails is an ordinary failure',
        'gives a deliberate answer at once and keeps nothing of it, unless retryOn names it',
      ],
    },
  },
  {
    what: 'Retry: waits end at once on shutdown and with a lost source, and the message goes back uncounted',
    tests: {
      [retry]: [
        'ends its wait at once with the application; the message stays, its attempts uncounted',
        'ends its wait with the connection, and the message comes again',
      ],
    },
  },
  {
    what: 'Retry: onRetry is told the wait that is waited, and changes nothing by failing',
    tests: {
      [retry]: [
        'tells onRetry which run failed, why, and how long it waits; what that throws changes nothing',
      ],
    },
  },
  {
    what: 'Time-outs: a failure like any other; the letter says so; the lane waits for the aborted run',
    tests: {
      'contract/suite/time-limits.ts': [
        'aborts a run that takes too long, each with a signal of its own, and keeps the message as a time-out',
        'runs again after a time-out; a message that then succeeds is handled',
        'lets what follows of its key wait until the run has ended',
      ],
    },
  },
  {
    what: 'Retry: a worst case in place that the broker would not wait for is refused at boot, with the numbers',
    tests: {
      'e2e/nest/policies.spec.ts': [
        'refuses waits in place that the broker would not wait for, with the numbers',
      ],
    },
  },
  {
    what: 'Every queue has the broker put away what is returned too often, where it is kept and can be replayed',
    tests: {
      'e2e/rabbitmq/letters.spec.ts': [
        'of headers nested 5 000 deep come by the delivery limit, while healthy messages are handled',
      ],
      'e2e/rabbitmq/restarts.spec.ts': [
        '25 times with 50 messages in flight puts none of them away and loses none',
      ],
      'e2e/rabbitmq/dead-letters-broker.spec.ts': [
        '$reason are shown with their reason, and go back with the pattern they had',
      ],
    },
  },
  {
    what: 'Dead letter: body and headers unchanged, ours added within a budget, whatever was thrown',
    tests: {
      [failures]: [
        'keeps the message of a failing event handler with its bytes and headers, and says why',
        'survives every kind of thrown thing, and still keeps the message',
        'takes hostile values in its own headers for absent',
      ],
      'e2e/rabbitmq/letters.spec.ts': ['of a message with $what are written, and the source goes on'],
      'e2e/kafka/hostile.spec.ts': ['keeps key, body and headers of its own in a letter, byte for byte'],
    },
  },
  {
    what: 'Dead letter: where it cannot be written the message waits, nothing is dropped, and it goes on by itself',
    tests: {
      'e2e/rabbitmq/letters.spec.ts': [
        'are written again after their queue was deleted',
        'wait while their queue refuses them, and are written when it takes them again',
      ],
      'e2e/kafka/hostile.spec.ts': ['that no letter can hold stays where it is and blocks nothing else'],
    },
  },
  {
    what: 'Dead letter: of requests only where somebody asks for it; undecodable ones are kept and answered',
    tests: {
      [retry]: [
        'answers with the error when no run is left, and keeps nothing',
        'keeps a failed request too where @DeadLetter() or the module asks for it',
      ],
      [requests]: ['answers an undecodable request, and keeps it'],
      [idempotency]: [
        '%s: a request whose handler fails twice runs three times, is answered, and leaves nothing',
        '%s: a request that always fails runs four times, gets the error, and leaves %i letters',
      ],
    },
  },
  {
    what: 'Dead letter: secrets stay out of it',
    tests: {
      [retry]: ['redacts, leaves the stack out, and tells of the letter once it is stored'],
      [failures]: [
        'redacts and tells of what no handler may see as the transport and the module say',
        'redacts what no handler may see as an interceptor of the whole application says',
      ],
    },
  },
  {
    what: 'Looking at letters loses, settles and reorders nothing',
    tests: {
      [replay]: ['shows them oldest first, as often as it is asked, and changes nothing'],
      'e2e/rabbitmq/dead-letters.spec.ts': ['shows %i letters in the same order 50 times, and moves none'],
      'e2e/kafka/dead-letters.spec.ts': [
        'finds what a failing handler left, the same each time, and commits nothing',
      ],
    },
  },
  {
    what: 'Replay: reaches only the queue or group, and the handler, that failed; runs begin anew',
    tests: {
      [replay]: ['sends each back once, in order, as it was, and its runs begin anew'],
      'e2e/rabbitmq/dead-letters.spec.ts': [
        'replays only to the queue that failed, though an exchange fills two, and begins anew',
      ],
      'e2e/kafka/retry-topics.spec.ts': [
        'what is written to the one of 0 runs at once, by the handler that it names and no other group',
      ],
    },
  },
  {
    what: 'Replay: dry unless told otherwise, bounded, resumable, and ends what goes round',
    tests: {
      [replay]: [
        'says what it would do, and does nothing unless told to',
        'lets a letter stay that was sent back often enough',
        'leaves off when it is told to, and what was done is done',
        'keeps to a rate',
      ],
      'e2e/kafka/dead-letters.spec.ts': [
        'does none twice and none not at all, whenever its process is killed',
      ],
      'e2e/rabbitmq/dead-letters-loss.spec.ts': [
        'loses nothing where the link is cut in a replay, and doubles at most the $window in hand',
      ],
      'e2e/cli.e2e.spec.ts': [
        'killed in the middle of a replay and run again it loses nothing and doubles one letter at most',
        'killed in the middle of a replay and run again it neither loses nor doubles a letter',
      ],
    },
  },
  {
    what: 'Idempotency: done is settled without running, and a request gets the same reply',
    tests: {
      [idempotency]: [
        'handles a message that comes twice once, and settles the second',
        'answers a duplicate with the same reply and does not run',
        'repeats a reply as it was: bytes, text, null, nothing',
        'does nothing twice after a restart, where the store remembers',
      ],
      [kills.rabbitmq]: ['runs no message again of which the store knows that it is done: begun'],
      [kills.kafka]: ['runs no record again of which the store knows that it is done: begun'],
    },
  },
  {
    what: 'Idempotency: in progress comes later, and is never settled as done',
    tests: {
      [idempotency]: [
        'keeps the second waiting, uncounted, and never settles it as done before the first is',
        'makes a duplicate wait for the answer of the run that is under way',
      ],
    },
  },
  {
    what: 'Idempotency: what fails, or asks for another run, frees its key; error replies are not stored',
    tests: {
      [idempotency]: [
        'runs again after a failure, by its retry policy and by another copy',
        'runs again after ctx.%s',
        'stores no error: the next one runs',
      ],
    },
  },
  {
    what: 'Idempotency: a store that is away makes messages wait, or is done without, as asked',
    tests: {
      [idempotency]: [
        'keeps its messages waiting until it is back',
        'does without it where the handler says so',
      ],
      'e2e/redis/faults.spec.ts': [
        'is killed and started again: fails by name meanwhile, keeps nothing waiting, remembers what it stored',
        'that is full: says so by name, writes nothing, and still renews and releases',
      ],
    },
  },
  {
    what: 'Requests: no route fails at once, late replies are counted, errors have names, replies go to nobody of an attacker',
    tests: {
      [requests]: [
        'rejects a request to a place that does not exist at once',
        'gives up when no reply comes in time, and counts the late one',
        'tells deliberate answers from failures',
        'answers nobody at an address that a client cannot have written, and keeps the message',
      ],
    },
  },
  {
    what: 'Concurrency: so many handlers at once and no more',
    tests: {
      'contract/suite/concurrency.ts': [
        'runs no more handlers at once than concurrency allows, and holds a bounded number of messages',
      ],
      'contract/suite/consumption.ts': [
        'holds a handler to its own concurrency, and holds up no other handler by it',
      ],
    },
  },
  {
    what: 'Shutdown: finishes what is at work, aborts the rest in time and gives it back',
    tests: {
      [loss]: [
        'waits at shutdown for handlers at work and settles their messages',
        'aborts handlers that outlive the drain time and loses nothing',
      ],
      'e2e/nest/lifecycle.spec.ts': [
        'drains before the database of a %s module is closed (stork global: %s, imported first: %s)',
      ],
    },
  },
  {
    what: 'Never silently dead: what the broker closes or deletes comes back',
    tests: {
      'e2e/rabbitmq/server-loss.spec.ts': [
        'comes back when the broker ends the channel because of consumer_timeout',
      ],
      'e2e/rabbitmq/loss.spec.ts': [
        'of the queue under a running consumer brings it back, whatever is being settled',
      ],
      'e2e/kafka/topics-gone.spec.ts': [
        'one is deleted and made again with %s in it: read from its beginning, the other goes on',
      ],
    },
  },
  {
    what: 'Hostile input: an error and a dead letter, never a crash',
    tests: {
      [failures]: ['keeps what cannot be decoded: %s', 'keeps a body above maxBodyBytes unread'],
      'e2e/rabbitmq/requests.spec.ts': [
        'and events of other programs are read whatever their properties say',
      ],
      'e2e/kafka/hostile.spec.ts': [
        'in a body becomes a dead letter with its bytes, and the partition goes on',
      ],
    },
  },
];
