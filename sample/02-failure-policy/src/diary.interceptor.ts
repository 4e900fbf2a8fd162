import { Injectable, type CallHandler, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import type { StorkContext } from 'nestjs-stork';
import { tap, type Observable } from 'rxjs';
import { Diary } from './diary.js';
import type { Order } from './orders.controller.js';

/** An interceptor sees every run of a handler, the second and third too. */
@Injectable()
export class DiaryInterceptor implements NestInterceptor {
  constructor(private readonly diary: Diary) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { attempt, maxAttempts } = context.switchToRpc().getContext<StorkContext>();
    const { order } = context.switchToRpc().getData<Order>();
    const note = (error?: Error): void => this.diary.noteRun({ order, attempt, maxAttempts, error });
    return next.handle().pipe(tap({ error: note, complete: () => note() }));
  }
}
