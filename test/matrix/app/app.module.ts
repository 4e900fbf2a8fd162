import { Controller, Inject, Module } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import {
  DeadLetter,
  getClientToken,
  InjectClient,
  Retry,
  StorkClient,
  StorkContext,
  StorkModule,
  via,
  type DeadLetterNotice,
} from 'nestjs-stork';
import { memory } from 'nestjs-stork/memory';
import { from, type Observable } from 'rxjs';

export interface Order {
  readonly id: string;
}

/** What has happened, as lines that a test can wait for. */
export class EventLog {
  readonly #lines: string[] = [];
  readonly #waiting = new Map<string, () => void>();

  write(line: string): void {
    this.#lines.push(line);
    this.#waiting.get(line)?.();
  }

  async saw(line: string): Promise<void> {
    if (this.#lines.includes(line)) return;
    await new Promise<void>((resolve) => {
      this.#waiting.set(line, resolve);
    });
  }
}

export const log = new EventLog();

@Controller()
export class OrdersController {
  constructor(
    @InjectClient('orders') private readonly client: StorkClient,
    @Inject(getClientToken('orders')) private readonly sameClient: StorkClient,
  ) {}

  @EventPattern('order.created', via('orders'))
  async created(@Payload() order: Order, @Ctx() ctx: StorkContext): Promise<void> {
    if (this.client !== this.sameClient) throw new Error('two clients of one transport');
    await this.client.publish('order.stored', order, { key: ctx.messageId ?? order.id });
  }

  @EventPattern('order.stored', via('orders'))
  stored(@Payload() order: Order): void {
    log.write(`stored ${order.id}`);
  }

  @EventPattern('order.broken', via('orders'))
  @Retry({ maxRetries: 1, delayMs: 1 })
  @DeadLetter({
    onDeadLetter: (notice: DeadLetterNotice) => log.write(`${notice.reason} ${notice.messageId}`),
  })
  broken(@Payload() order: Order): void {
    throw new Error(`the order ${order.id} is broken`);
  }

  @MessagePattern('order.quote', via('orders'))
  quote(@Payload() { quantity }: { readonly quantity: number }): { readonly cents: number } {
    return { cents: quantity * 250 };
  }

  @MessagePattern({ cmd: 'count' }, via('orders'))
  count(@Payload() to: number): Observable<number> {
    return from(Array.from({ length: to }, (_, i) => i + 1));
  }

  @MessagePattern('order.refused', via('orders'))
  refused(): never {
    throw new RpcException({ code: 'OUT_OF_STOCK', message: 'out of stock' });
  }
}

@Module({
  imports: [StorkModule.forRoot({ transports: { orders: memory({ queue: 'orders' }) } })],
  controllers: [OrdersController],
})
export class AppModule {}
