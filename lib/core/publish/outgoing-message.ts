import { randomUUID } from 'node:crypto';
import type { StorkClock } from '../runtime/clock.js';
import type { Codecs, Encoded } from '../message/codec.js';
import { currentCorrelation, type CorrelationContext } from './correlation-context.js';
import { derivedMessageId } from './message-id.js';
import type { EncodingOrder } from './encoding-order.js';
import type { Capabilities, OptionalMessageOption } from '../port/driver.js';
import { messageOf, StorkConfigError, type ConfigProblem } from '../runtime/errors.js';
import {
  copyHeaders,
  headerNames,
  latestTimeMs,
  reservedPrefix,
  timeText,
  type MessageHeaders,
  type HeaderValue,
} from '../message/headers.js';
import type { MessageDestination, OutboundMessage } from '../port/message.js';
import { isPatternLength, maxPatternBytes } from '../message/pattern.js';
import { printable } from '../message/text.js';
import { andThen } from '../runtime/with-timeout.js';

/**
 * Options of one message. An option that the transport's broker does not support is an error that names the
 * option.
 *
 * @publicApi
 */
export interface MessageOptions {
  /** Application headers. Names that begin with `stork-` are reserved and rejected. */
  readonly headers?: MessageHeaders;
  /** Messages with the same key are handled in order. */
  readonly key?: string;
  /**
   * Identifies the message permanently; consumers detect duplicates by it. @defaultValue in a handler an id
   * that is the same in each attempt, derived from the id of the handled message, the handler, and this
   * message's pattern, key and body; else a new UUID
   */
  readonly messageId?: string;
  /**
   * Id of a request, by which its reply and a duplicate of it are recognised; it must be unique among the
   * pending requests. Refused for an event. @defaultValue a new UUID
   */
  readonly requestId?: string;
  /**
   * Correlation id that the message shares with all messages that follow from it, across services.
   * @defaultValue that of the message being handled; else the consumer takes the message's id
   */
  readonly correlationId?: string;
  /**
   * Time limit in milliseconds, from 1. For an event, until the broker has confirmed it. @defaultValue the
   * transport's `publishTimeoutMs`, 30 000
   *
   * For a request, until its reply, or the next item of a streamed reply, arrives. @defaultValue 30 000
   */
  readonly timeoutMs?: number;
  /**
   * Milliseconds after which the broker removes the message if no consumer has received it. If its queue
   * has a dead letter queue, the broker moves it there.
   */
  readonly expiresInMs?: number;
  /** Milliseconds for which the broker delays an event before delivery. A request cannot be delayed. */
  readonly delayMs?: number;
  /** False: the broker may lose the message when it crashes. @defaultValue true */
  readonly persistent?: boolean;
  /** 0 to 255; of a queue with priorities, messages with a higher one are delivered first. */
  readonly priority?: number;
  readonly partition?: number;
  /** @defaultValue the transport's `defaultContentType`; `application/octet-stream` for bytes */
  readonly contentType?: string;
  /** Time of the event, in milliseconds since the Unix epoch. @defaultValue now */
  readonly timestamp?: number;
  readonly appId?: string;
  /**
   * Cancels the call, which rejects with the signal's reason: a request stops waiting for its reply, an event
   * for the broker's confirmation. A message that still waits to be sent is withdrawn; one that was sent may
   * be stored and handled.
   */
  readonly signal?: AbortSignal;
  /** Overrides the transport's default destination. */
  readonly to?: MessageDestination;
}

export interface OutboundScope {
  readonly transport: string;
  readonly capabilities: Capabilities;
  readonly codecs: Codecs;
  readonly clock: StorkClock;
  readonly order: EncodingOrder;
  /** Name of the queue, exchange or topic that a message goes to. */
  readonly destinationOf: (message: Pick<OutboundMessage, 'pattern' | 'to'>) => string | undefined;
}

/** Id and time-out of a request. */
export interface RequestParts {
  readonly id: string;
  readonly timeoutMs: number;
}

/**
 * Validates and encodes a message.
 *
 * @returns a promise if the codec encodes asynchronously
 * @throws StorkConfigError that names each invalid option, or data that cannot be encoded; a promise rejects
 * with it
 */
export function buildMessage(
  pattern: string,
  data: unknown,
  options: MessageOptions,
  scope: OutboundScope,
  request?: RequestParts,
): OutboundMessage | Promise<OutboundMessage> {
  const problems = validateMessage(pattern, options, scope, request !== undefined);
  if (request === undefined && options.requestId !== undefined) problems.push(requestIdOfEvent(options));
  if (problems.length > 0) throw new StorkConfigError(problems);
  const now = scope.clock.now();
  const headers = copyHeaders(options.headers);
  if (request !== undefined) headers[headerNames.deadline] = timeText(now + request.timeoutMs);
  if (options.correlationId !== undefined) headers[headerNames.correlationId] = options.correlationId;
  const correlation = currentCorrelation();
  if (correlation !== undefined) propagateCorrelation(correlation, headers);
  const encoded = encode(pattern, data, { options, headers, scope });
  return andThen(encoded, ({ body, contentType }) => ({
    pattern,
    body,
    headers,
    contentType,
    messageId:
      options.messageId ?? derivedMessageId(correlation, { pattern, key: options.key, body }) ?? randomUUID(),
    correlationId: request?.id ?? options.correlationId,
    key: options.key,
    timestamp: options.timestamp ?? now,
    to: options.to,
    persistent: options.persistent,
    expiresInMs: options.expiresInMs,
    delayMs: options.delayMs,
    priority: options.priority,
    partition: options.partition,
    appId: options.appId,
  }));
}

function requestIdOfEvent({ requestId }: MessageOptions): ConfigProblem {
  const expected = 'nothing: an event has no reply; correlationId relates it to other messages';
  return { name: 'requestId', expected, given: printable(requestId) };
}

/**
 * A message sent by a handler inherits the correlation id of the message being handled, unless the options
 * name one.
 */
function propagateCorrelation(
  { correlationId, messageId }: CorrelationContext,
  headers: Record<string, HeaderValue>,
): void {
  if (correlationId !== undefined) headers[headerNames.correlationId] ??= correlationId;
  if (messageId !== undefined) headers[headerNames.causationId] = messageId;
}

interface MessageParts {
  readonly options: MessageOptions;
  readonly headers: MessageHeaders;
  readonly scope: OutboundScope;
}

function encode(
  pattern: string,
  data: unknown,
  { options, headers, scope }: MessageParts,
): Encoded | Promise<Encoded> {
  const refuse = (cause: unknown): never => {
    const why = messageOf(cause);
    throw new StorkConfigError(`the data for pattern ${JSON.stringify(pattern)} cannot be encoded: ${why}`, {
      cause,
    });
  };
  try {
    const encoded = scope.codecs.encode(data, options.contentType, () => ({
      direction: 'outbound',
      pattern,
      destination: scope.destinationOf({ pattern, to: options.to }),
      headers,
    }));
    return encoded instanceof Promise ? encoded.catch(refuse) : encoded;
  } catch (error) {
    return refuse(error);
  }
}

/** Shared default: identity comparison lets the hot path skip validation. */
export const noOptions: MessageOptions = {};

/** Maximum of a broker's 32-bit time to live, 49 days. */
const maxDurationMs = 2 ** 32 - 1;

/** All message options, to reject misspelt ones. */
const optionNames: Readonly<Record<keyof MessageOptions, true>> = {
  headers: true,
  key: true,
  messageId: true,
  requestId: true,
  correlationId: true,
  timeoutMs: true,
  expiresInMs: true,
  delayMs: true,
  persistent: true,
  priority: true,
  partition: true,
  contentType: true,
  timestamp: true,
  appId: true,
  signal: true,
  to: true,
};

const brokerDependentOptions: readonly OptionalMessageOption[] = [
  'delayMs',
  'expiresInMs',
  'priority',
  'partition',
  'persistent',
  'appId',
];

function validateMessage(
  pattern: string,
  options: MessageOptions,
  scope: OutboundScope,
  isRequest: boolean,
): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const expect = (holds: boolean, name: string, expected: string, given: unknown): void => {
    if (!holds) problems.push({ name, expected, given: printable(given) });
  };
  expect(
    typeof pattern === 'string' && isPatternLength(pattern),
    'pattern',
    `1 to ${maxPatternBytes} bytes`,
    pattern,
  );
  if (options === noOptions) return problems;
  for (const name of brokerDependentOptions) {
    if (options[name] === undefined) continue;
    const transport = `the transport ${JSON.stringify(scope.transport)}`;
    const isSupported = scope.capabilities.messageOptions.has(name);
    expect(isSupported, name, `nothing: ${transport} does not support it`, options[name]);
    // The caller's time limit would run, and no queue bound would be noticed only after the delay.
    const isDelayedRequest = isSupported && isRequest && name === 'delayMs';
    expect(!isDelayedRequest, name, `nothing: ${transport} does not delay requests`, options[name]);
  }
  expectValues(options, expect);
  for (const name of Object.keys(options))
    expect(Object.hasOwn(optionNames, name), name, 'no such option', name);
  if (options.to !== undefined) expectDestination(options.to, scope, expect);
  const { headers = {} } = options;
  const isHeaders = typeof headers === 'object' && headers !== null && !Array.isArray(headers);
  expect(isHeaders, 'headers', 'an object of names and values', headers);
  for (const name of isHeaders ? Object.keys(headers) : []) {
    expect(
      !name.startsWith(reservedPrefix),
      `headers.${name}`,
      `no name that begins with ${reservedPrefix}`,
      name,
    );
  }
  return problems;
}

type Expect = (holds: boolean, name: string, expected: string, given: unknown) => void;

function expectValues(options: MessageOptions, expect: Expect): void {
  type IntegerOption = 'timeoutMs' | 'expiresInMs' | 'delayMs' | 'partition' | 'timestamp';
  const expectInteger = (name: IntegerOption, least: number, most: number): void => {
    const value = options[name];
    const fits = value === undefined || (Number.isSafeInteger(value) && value >= least && value <= most);
    expect(fits, name, `an integer from ${least} to ${most}`, value);
  };
  expectInteger('timeoutMs', 1, maxDurationMs);
  expectInteger('expiresInMs', 0, maxDurationMs);
  expectInteger('delayMs', 0, maxDurationMs);
  expectInteger('partition', 0, 2 ** 31 - 1);
  expectInteger('timestamp', 0, latestTimeMs);
  const { priority } = options;
  const isPriority =
    priority === undefined || (Number.isInteger(priority) && priority >= 0 && priority <= 255);
  expect(isPriority, 'priority', 'an integer from 0 to 255', priority);
  const { persistent, signal } = options;
  const isPersistent = persistent === undefined || typeof persistent === 'boolean';
  expect(isPersistent, 'persistent', 'true or false', persistent);
  expect(signal === undefined || isAbortSignal(signal), 'signal', 'an AbortSignal', signal);
  for (const name of ['key', 'messageId', 'requestId', 'correlationId', 'contentType', 'appId'] as const) {
    const value = options[name];
    const fits =
      value === undefined || (typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= 255);
    expect(fits, name, 'a string of 1 to 255 bytes', value);
  }
}

function expectDestination(to: MessageDestination, scope: OutboundScope, expect: Expect): void {
  const kinds = ['queue', 'exchange', 'topic'] as const;
  const named = kinds.filter(
    (kind) => typeof (to as Partial<Record<string, unknown>> | null)?.[kind] === 'string',
  );
  const possible = [...scope.capabilities.destinations].map((kind) => `{ ${kind} }`).join(' or ');
  const kind = named[0];
  const isPossible = kind !== undefined && named.length === 1 && scope.capabilities.destinations.has(kind);
  expect(isPossible, 'to', possible, to);
  if (!isPossible) return;
  for (const [name, value] of Object.entries(to)) {
    const isField = name === kind || (name === 'routingKey' && kind === 'exchange');
    expect(isField || value === undefined, `to.${name}`, `nothing beside ${kind}`, value);
    if (isField) expect(value === undefined || typeof value === 'string', `to.${name}`, 'text', value);
  }
}

/** Also one of another realm or a polyfill, which is no instance of this realm's class. */
export function isAbortSignal(value: unknown): value is AbortSignal {
  const signal = value as Partial<AbortSignal> | null | undefined;
  return typeof signal?.aborted === 'boolean' && typeof signal.addEventListener === 'function';
}
