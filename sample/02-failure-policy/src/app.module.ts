import { Module, type DynamicModule } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { memoryIdempotencyStore, StorkModule, type TransportDefinition } from 'nestjs-stork';
import { Catalogue } from './catalogue.js';
import { EventLog } from './event-log.js';
import { EventLogInterceptor } from './event-log.interceptor.js';
import { OrdersController } from './orders.controller.js';
import { Report } from './report.js';

/**
 * Short, because a person waits at the terminal. In production the default, a minute, lets services start in
 * any order.
 */
const startTimeoutMs = 10_000;

@Module({})
export class AppModule {
  static register(shop: TransportDefinition, log: EventLog): DynamicModule {
    return {
      module: AppModule,
      imports: [
        StorkModule.forRoot({
          transports: { shop },
          startTimeoutMs,
          // Options of a handler are merged over these, field by field.
          deadLetter: { onDeadLetter: (deadLetter) => log.noteDeadLetter(deadLetter) },
          // Known to this process alone; several processes would share a Redis.
          idempotency: { store: memoryIdempotencyStore() },
        }),
      ],
      controllers: [OrdersController],
      providers: [
        Catalogue,
        Report,
        { provide: EventLog, useValue: log },
        { provide: APP_INTERCEPTOR, useClass: EventLogInterceptor },
      ],
    };
  }
}
