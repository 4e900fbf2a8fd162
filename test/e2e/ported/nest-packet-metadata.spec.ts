import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload, type TcpContext } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { StorkClient } from 'nestjs-stork';
import { Seen } from '../../contract/app.js';
import { startHybrid, transports, uniqueSource, type Hybrid } from './support.js';

const recorded = new Seen<unknown>();

@Controller()
class Metadata {
  @MessagePattern<string>('echo')
  echo(@Payload() data: unknown, @Ctx() context: TcpContext): unknown {
    return { data, metadata: context.getMetadata() ?? 'none' };
  }
  @EventPattern<string>('record')
  record(@Ctx() context: TcpContext): void {
    recorded.add(context.getMetadata());
  }
}

describe.each(transports)('Nest: packet metadata over $name', ({ isSkipped, use }) => {
  describe.skipIf(isSkipped)('attached by the dispatch hook', () => {
    const define = use();
    let hybrid: Hybrid;
    let client: StorkClient;

    beforeAll(async () => {
      const stork = { transports: { main: define(uniqueSource()) } };
      hybrid = await startHybrid({ stork, controllers: [Metadata] });
      client = hybrid.client();
    });
    beforeEach(() => client.setOnDispatchHook(() => {}));
    afterAll(() => hybrid.app.close());

    it('reaches the handler of a request, beside the data', async () => {
      client.setOnDispatchHook((packet) => {
        packet.metadata = { 'x-request-id': 'first' };
      });
      expect(await lastValueFrom(client.send<unknown>('echo', { id: 7 }))).toEqual({
        data: { id: 7 },
        metadata: { 'x-request-id': 'first' },
      });
    });

    it('reaches the handler of an event', async () => {
      const before = recorded.all.length;
      client.setOnDispatchHook((packet) => {
        packet.metadata = { 'x-request-id': 'second' };
      });
      await lastValueFrom(client.emit('record', {}), { defaultValue: undefined });
      expect((await recorded.count(before + 1)).at(-1)).toEqual({ 'x-request-id': 'second' });
    });

    it('is undefined where the hook attaches none', async () => {
      expect(await lastValueFrom(client.send<unknown>('echo', 'plain'))).toEqual({
        data: 'plain',
        metadata: 'none',
      });
    });

    it('the hook is called once for each packet, with its pattern and data', async () => {
      const packets: unknown[] = [];
      client.setOnDispatchHook(({ pattern, data }) => void packets.push([pattern, data]));
      await lastValueFrom(client.send<unknown>('echo', 1));
      await lastValueFrom(client.send<unknown>('echo', 2));
      expect(packets).toEqual([
        ['echo', 1],
        ['echo', 2],
      ]);
    });
  });
});
