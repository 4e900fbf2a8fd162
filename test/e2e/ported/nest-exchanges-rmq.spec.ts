import { Controller } from '@nestjs/common';
import { Ctx, MessagePattern, type RmqContext } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { reconnect, startRabbitApp, url, useRaw } from '../rabbitmq/support.js';
import { startHybrid, uniqueSource } from './support.js';

@Controller()
class Patterns {
  @MessagePattern<string>('ping')
  ping(@Ctx() context: RmqContext): string {
    return `${context.getPattern()}/pong`;
  }
  @MessagePattern<string>('wildcard.*.*')
  wildcard(@Ctx() context: RmqContext): string {
    return context.getPattern();
  }
}

describe.skipIf(url === undefined)('Nest: exchanges of RabbitMQ', () => {
  const raw = useRaw();

  it('a request through a fanout exchange is answered by a consumer with a queue of its own', async () => {
    const exchange = { name: raw().exchange(), type: 'fanout' } as const;
    const queue = raw().queue(uniqueSource());
    await startRabbitApp({ controllers: [Patterns], options: { queue, exchange } });
    const producer = await startHybrid({
      stork: { transports: { main: rabbitmq({ url, exchange, reconnect, handlers: 'none' }) } },
    });
    onTestFinished(() => producer.app.close());
    expect(await lastValueFrom(producer.client().send<string>('ping', 1))).toBe('ping/pong');
  });

  it('a handler with wildcards is told the pattern that the sender wrote', async () => {
    const exchange = { name: raw().exchange(), type: 'topic' } as const;
    const queue = raw().queue(uniqueSource());
    const hybrid = await startHybrid({
      stork: { transports: { main: rabbitmq({ url, queue, exchange, reconnect }) } },
      controllers: [Patterns],
    });
    onTestFinished(() => hybrid.app.close());
    expect(await lastValueFrom(hybrid.client().send<string>('wildcard.a.b', 1))).toBe('wildcard.a.b');
  });
});
