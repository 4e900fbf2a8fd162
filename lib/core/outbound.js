import { randomUUID } from 'node:crypto';
import { messageOf, StorkConfigError } from './errors.js';
import { copyHeaders, headerNames, latestTimeMs, reservedPrefix, timeText } from './headers.js';
import { isPatternLength, maxPatternBytes } from './pattern.js';
import { printable } from './text.js';
/**
 * Checks and encodes what a caller wants to send.
 *
 * @throws StorkConfigError naming each option that is wrong, or the value that cannot be encoded
 */
export function buildMessage(pattern, data, options, scope, request) {
  const problems = checkMessage(pattern, options, scope);
  if (problems.length > 0) throw new StorkConfigError(problems);
  const { body, contentType } = encode(pattern, data, options.contentType, scope);
  const now = scope.clock.now();
  const headers = copyHeaders(options.headers);
  if (request !== undefined) headers[headerNames.deadline] = timeText(now + request.timeoutMs);
  else if (options.correlationId !== undefined) headers[headerNames.correlationId] = options.correlationId;
  return {
    pattern,
    body,
    headers,
    contentType,
    messageId: options.messageId ?? randomUUID(),
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
  };
}
function encode(pattern, data, contentType, scope) {
  try {
    return scope.codecs.encode(data, contentType);
  } catch (error) {
    throw new StorkConfigError(
      `the data for pattern ${JSON.stringify(pattern)} cannot be encoded: ${messageOf(error)}`,
      {
        cause: error,
      },
    );
  }
}
/** Said by a caller who says nothing: there is nothing to check. */
export const noOptions = {};
/** What a broker's 32-bit time to live holds, 49 days. */
const longestMs = 2 ** 32 - 1;
/** Every option of a message: a misspelt one must not be taken in silence. */
const optionNames = {
  headers: true,
  key: true,
  messageId: true,
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
const optional = ['delayMs', 'expiresInMs', 'priority', 'partition', 'persistent', 'appId'];
function checkMessage(pattern, options, scope) {
  const problems = [];
  const expect = (holds, name, expected, given) => {
    if (!holds) problems.push({ name, expected, given: printable(given) });
  };
  expect(
    typeof pattern === 'string' && isPatternLength(pattern),
    'pattern',
    `1 to ${maxPatternBytes} bytes`,
    pattern,
  );
  if (options === noOptions) return problems;
  for (const name of optional) {
    const honoured = options[name] === undefined || scope.capabilities.messageOptions.has(name);
    expect(
      honoured,
      name,
      `nothing: the transport ${JSON.stringify(scope.transport)} cannot honour it`,
      options[name],
    );
  }
  expectKinds(options, expect);
  for (const name of Object.keys(options))
    expect(Object.hasOwn(optionNames, name), name, 'no such option', name);
  if (options.to !== undefined) expectDestination(options.to, scope, expect);
  for (const name of Object.keys(options.headers ?? {})) {
    expect(
      !name.startsWith(reservedPrefix),
      `headers.${name}`,
      `no name that begins with ${reservedPrefix}`,
      name,
    );
  }
  return problems;
}
function expectKinds(options, expect) {
  const whole = (name, least, most) => {
    const value = options[name];
    const fits = value === undefined || (Number.isSafeInteger(value) && value >= least && value <= most);
    expect(fits, name, `an integer from ${least} to ${most}`, value);
  };
  whole('timeoutMs', 1, longestMs);
  whole('expiresInMs', 0, longestMs);
  whole('delayMs', 0, longestMs);
  whole('partition', 0, 2 ** 31 - 1);
  whole('timestamp', 0, latestTimeMs);
  const { priority } = options;
  const isPriority =
    priority === undefined || (Number.isInteger(priority) && priority >= 0 && priority <= 255);
  expect(isPriority, 'priority', 'an integer from 0 to 255', priority);
  for (const name of ['key', 'messageId', 'correlationId', 'contentType', 'appId']) {
    const value = options[name];
    const fits =
      value === undefined || (typeof value === 'string' && value !== '' && Buffer.byteLength(value) <= 255);
    expect(fits, name, 'text of 1 to 255 bytes', value);
  }
}
function expectDestination(to, scope, expect) {
  const kinds = ['queue', 'exchange', 'topic'];
  const named = kinds.filter((kind) => typeof to?.[kind] === 'string');
  const possible = [...scope.capabilities.destinations].map((kind) => `{ ${kind} }`).join(' or ');
  expect(named.length === 1 && scope.capabilities.destinations.has(named[0]), 'to', possible, to);
}
