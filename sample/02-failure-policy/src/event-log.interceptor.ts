import { Injectable, type CallHandler, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import type { StorkContext } from 'nestjs-stork';
import { tap, type Observable } from 'rxjs';
import { EventLog } from './event-log.js';
import type { Order } from './orders.controller.js';

/** An interceptor runs in every attempt, retries included. */
@Injectable()
export class EventLogInterceptor implements NestInterceptor {
  constructor(private readonly log: EventLog) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { attempt, maxAttempts } = context.switchToRpc().getContext<StorkContext>();
    const { order } = context.switchToRpc().getData<Order>();
    const note = (error?: Error): void => this.log.noteAttempt({ order, attempt, maxAttempts, error });
    return next.handle().pipe(tap({ error: note, complete: () => note() }));
  }
}
