import { afterAll, beforeAll, describe } from 'vitest';
import type { DriverHarness } from './harness.js';
import { capabilityContract } from './suite/capabilities.js';
import { codecContract } from './suite/codecs.js';
import { concurrencyContract } from './suite/concurrency.js';
import { connectionContract } from './suite/connections.js';
import { consumptionContract } from './suite/consumption.js';
import { contextContract } from './suite/contexts.js';
import { correlationContract } from './suite/correlation.js';
import { deadLetterTargetContract } from './suite/dead-letter-targets.js';
import { deliveryModeContract } from './suite/delivery-modes.js';
import { disturbanceContract } from './suite/disturbances.js';
import { eventContract } from './suite/events.js';
import { failureContract } from './suite/failures.js';
import { messageOptionContract } from './suite/message-options.js';
import { idempotencyContract } from './suite/idempotency.js';
import { lossContract } from './suite/loss.js';
import { kafkaRecordContract, nestRecordContract } from './suite/nest-records.js';
import { outageContract } from './suite/outages.js';
import { repetitionContract } from './suite/repetition.js';
import { replayContract } from './suite/replay.js';
import { requestContract } from './suite/requests.js';
import { retryContract } from './suite/retry.js';
import { routingContract } from './suite/routing.js';
import { timeLimitContract } from './suite/time-limits.js';
import { unhandledContract } from './suite/unhandled.js';
import { waitingContract } from './suite/waiting.js';

/**
 * The contract of every driver. No driver may skip a test under `common`; `capabilities` has the options
 * that only some brokers support.
 */
export function driverContract(harness: DriverHarness): void {
  describe.skipIf(harness.skip)(`contract: ${harness.name}`, () => {
    beforeAll(() => harness.open());
    afterAll(() => harness.close());
    describe('common', () => {
      describe('events', () => eventContract(harness));
      describe('requests', () => requestContract(harness));
      describe('records of Nest', () => nestRecordContract(harness));
      describe('message options', () => messageOptionContract(harness));
      describe('codecs', () => codecContract(harness));
      describe('failures', () => failureContract(harness));
      describe('routing', () => routingContract(harness));
      describe('concurrency and order', () => concurrencyContract(harness));
      describe('how handlers consume', () => consumptionContract(harness));
      describe('delivery modes', () => deliveryModeContract(harness));
      describe('retry', () => retryContract(harness));
      describe('repetition', () => repetitionContract(harness));
      describe('waiting', () => waitingContract(harness));
      describe('replay', () => replayContract(harness));
      describe('idempotency', () => idempotencyContract(harness));
      describe('time limits', () => timeLimitContract(harness));
      describe('dead letter targets', () => deadLetterTargetContract(harness));
      describe('contexts', () => contextContract(harness));
      describe('correlation', () => correlationContract(harness));
      describe('connections', () => connectionContract(harness));
      describe('loss and shutdown', () => lossContract(harness));
      describe('disturbances', () => disturbanceContract(harness));
    });
    describe('capabilities', () => {
      capabilityContract(harness);
      describe('records of Nest for Kafka', () => kafkaRecordContract(harness));
      describe('messages without a handler', () => unhandledContract(harness));
    });
    if (harness.outage !== undefined) describe('outages', () => outageContract(harness));
  });
}
