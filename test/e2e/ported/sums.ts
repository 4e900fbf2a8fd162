import { Body, Controller, HttpCode, Post, Query } from '@nestjs/common';
import { EventPattern, MessagePattern, Payload, RpcException, type ClientProxy } from '@nestjs/microservices';
import { catchError, from, lastValueFrom, of, scan, type Observable } from 'rxjs';
import { InjectClient } from 'nestjs-stork';
import { Seen } from '../../contract/app.js';
import { sumOf } from './support.js';

/** What `Sums` was notified of. */
export const notifications = new Seen<unknown>();

/** The message handlers of upstream's sum suites. */
@Controller()
export class Sums {
  @MessagePattern({ cmd: 'sum' })
  sum(@Payload() numbers: readonly number[]): number {
    return sumOf(numbers);
  }
  @MessagePattern({ cmd: 'asyncSum' })
  async asyncSum(@Payload() numbers: readonly number[]): Promise<number> {
    return sumOf(numbers);
  }
  @MessagePattern({ cmd: 'streamSum' })
  streamSum(@Payload() numbers: readonly number[]): Observable<number> {
    return of(sumOf(numbers));
  }
  @MessagePattern({ cmd: 'streaming' })
  streaming(@Payload() numbers: readonly number[]): Observable<number> {
    return from(numbers);
  }
  @MessagePattern({ cmd: 'exception' })
  exception(@Payload() data: unknown): never {
    throw new RpcException({ data });
  }
  @EventPattern<string>('notification')
  notified(@Payload() data: unknown): void {
    notifications.add(data);
  }
}

/** The HTTP side: each route sends a request, in Nest's way, and responds with the reply. */
@Controller()
export class SumRoutes {
  readonly #client: ClientProxy;

  constructor(@InjectClient('main') client: ClientProxy) {
    this.#client = client;
  }

  @Post()
  @HttpCode(200)
  call(@Query('command') cmd: string, @Body() numbers: readonly number[]): Observable<number> {
    return this.#client.send<number>({ cmd }, numbers);
  }
  @Post('stream')
  @HttpCode(200)
  stream(@Body() numbers: readonly number[]): Observable<number> {
    return this.#client.send<number>({ cmd: 'streaming' }, numbers).pipe(scan((sum, n) => sum + n));
  }
  @Post('concurrent')
  @HttpCode(200)
  async concurrent(@Body() lists: readonly (readonly number[])[]): Promise<boolean> {
    const sums = await Promise.all(
      lists.map((numbers) => lastValueFrom(this.#client.send<number>({ cmd: 'sum' }, numbers))),
    );
    return sums.every((sum, i) => sum === sumOf(lists[i]!));
  }
  @Post('notify')
  notify(): Observable<unknown> {
    return this.#client.emit('notification', true);
  }
}

/** Whether the error of a failed request is an `RpcException`, as a client that overrides `serializeError` makes it. */
export function failsWithRpcException(client: Pick<ClientProxy, 'send'>): Promise<boolean> {
  const reply = client.send<never>({ cmd: 'exception' }, {});
  return lastValueFrom(reply.pipe(catchError((error: unknown) => of(error instanceof RpcException))));
}
