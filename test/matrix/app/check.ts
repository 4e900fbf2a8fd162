import type { INestApplicationContext } from '@nestjs/common';
import { strict as assert } from 'node:assert';
import { lastValueFrom, toArray } from 'rxjs';
import { DeadLetterService, getClientToken, isStorkError, RemoteError, type StorkClient } from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { idempotencyStoreSuite } from 'nestjs-stork/testing';
import { log } from './app.module.js';

/**
 * Handles, asks, streams and dead-letters on a running application.
 *
 * @param id unique in the process
 */
export async function check(app: INestApplicationContext, id: string): Promise<void> {
  const client = app.get<StorkClient>(getClientToken('orders'), { strict: false });

  await lastValueFrom(client.emit('order.created', { id }), { defaultValue: undefined });
  await log.saw(`stored ${id}`);

  assert.deepEqual(await client.request('order.quote', { quantity: 2 }), { cents: 500 });
  assert.deepEqual(await lastValueFrom(client.send({ cmd: 'count' }, 3).pipe(toArray())), [1, 2, 3]);
  await assert.rejects(client.request('order.refused', {}), (error: unknown) => {
    assert(error instanceof RemoteError && isStorkError(error));
    assert.equal(error.name, 'RemoteError');
    assert.equal(error.code, 'OUT_OF_STOCK');
    return true;
  });

  await client.publish('order.broken', { id }, { messageId: id });
  await log.saw(`retries-exhausted ${id}`);
  const { total } = await app.get(DeadLetterService, { strict: false }).stats({ transport: 'orders' });
  assert.equal(total, 1);

  for (const factory of [kafka, rabbitmq, idempotencyStoreSuite]) assert.equal(typeof factory, 'function');
}
