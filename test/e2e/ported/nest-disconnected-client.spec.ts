import { Controller, InternalServerErrorException, Post, RequestTimeoutException } from '@nestjs/common';
import type { ClientProxy } from '@nestjs/microservices';
import { catchError, throwError, type Observable } from 'rxjs';
import { describe, expect, it, onTestFinished } from 'vitest';
import { InjectClient } from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { startHybrid, uniqueSource } from './support.js';

/** On a busy machine timers are late; without `startTimeoutMs` it would take 30 s. */
const promptMs = 15_000;
/** Nothing listens there. */
const [host, reconnect] = ['127.0.0.1:1', { delayMs: 20, maxDelayMs: 100 }];

@Controller()
class Disconnected {
  readonly #client: ClientProxy;

  constructor(@InjectClient('main') client: ClientProxy) {
    this.#client = client;
  }

  @Post()
  call(): Observable<number> {
    return this.#client
      .send<number>({ cmd: 'none' }, [1, 2, 3])
      .pipe(
        catchError(({ code }: { readonly code?: unknown }) =>
          throwError(() =>
            code === 'CONNECTION_LOST' ? new RequestTimeoutException() : new InternalServerErrorException(),
          ),
        ),
      );
  }
}

describe('Nest: a client whose broker is away', () => {
  it.each([
    ['rabbitmq', rabbitmq({ url: `amqp://${host}`, publishTo: { queue: 'q' }, reconnect, handlers: 'none' })],
    [
      'kafka',
      kafka({ brokers: [host], topic: uniqueSource(), patternHeader: 'p', reconnect, handlers: 'none' }),
    ],
  ])('%s: the route answers that it timed out, once the time for connecting has passed', async (_, main) => {
    const hybrid = await startHybrid({
      stork: { transports: { main }, startTimeoutMs: 300 },
      controllers: [Disconnected],
      isConnected: false,
    });
    onTestFinished(() => hybrid.app.close());
    const began = performance.now();
    expect(await hybrid.post('/')).toMatchObject({ status: 408 });
    expect(performance.now() - began).toBeLessThan(promptMs);
  });
});
