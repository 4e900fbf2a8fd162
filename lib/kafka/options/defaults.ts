import type { KafkaOptions } from './options.js';

export const kafkaDefaults = {
  topicRefreshMs: 60_000,
  connectTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  reconnect: { delayMs: 500, maxDelayMs: 30_000 },
  sessionTimeoutMs: 30_000,
  heartbeatIntervalMs: 3_000,
  revokeTimeoutMs: 5_000,
  fetch: { maxBytes: 10 * 1024 * 1024, maxBytesPerPartition: 1024 * 1024, maxWaitMs: 250 },
  maxOffsetGap: 10_000,
  clockSkewMs: 5_000,
  /** Below the broker's 1 MiB: leaves room for batch headers and for incompressible bytes. */
  maxBatchBytes: 900_000,
  maxBufferedMessages: 10_000,
  maxBufferedBytes: 64 * 1024 * 1024,
};

/** Timeouts of a consumer; their defaults depend on one another. */
export function consumerTimeouts(options: KafkaOptions): {
  sessionTimeoutMs: number;
  heartbeatIntervalMs: number;
  maxRevokeTimeoutMs: number;
  revokeTimeoutMs: number;
} {
  const sessionTimeoutMs = options.sessionTimeoutMs ?? kafkaDefaults.sessionTimeoutMs;
  const third = Math.floor(sessionTimeoutMs / 3);
  const heartbeatIntervalMs =
    options.heartbeatIntervalMs ?? Math.min(kafkaDefaults.heartbeatIntervalMs, third);
  const maxRevokeTimeoutMs = sessionTimeoutMs - heartbeatIntervalMs;
  const revokeTimeoutMs =
    options.revokeTimeoutMs ?? Math.min(kafkaDefaults.revokeTimeoutMs, maxRevokeTimeoutMs);
  return { sessionTimeoutMs, heartbeatIntervalMs, maxRevokeTimeoutMs, revokeTimeoutMs };
}
