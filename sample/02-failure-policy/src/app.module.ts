import { Module, type DynamicModule } from '@nestjs/common';
import { APP_INTERCEPTOR } from '@nestjs/core';
import { memoryIdempotencyStore, StorkModule, type TransportDefinition } from 'nestjs-stork';
import { Catalogue } from './catalogue.js';
import { Diary } from './diary.js';
import { DiaryInterceptor } from './diary.interceptor.js';
import { OrdersController } from './orders.controller.js';
import { Story } from './story.js';

/** Somebody waits at a terminal; in production the default of a minute lets a broker and its users start in any order. */
const startTimeoutMs = 10_000;

@Module({})
export class AppModule {
  static over(shop: TransportDefinition, diary: Diary): DynamicModule {
    return {
      module: AppModule,
      imports: [
        StorkModule.forRoot({
          transports: { shop },
          startTimeoutMs,
          // What stands at the handlers is laid over this, field by field.
          deadLetter: { onDeadLetter: (deadLetter) => diary.noteLetter(deadLetter) },
          // This process remembers by itself what it has done; several would share a Redis.
          idempotency: { store: memoryIdempotencyStore() },
        }),
      ],
      controllers: [OrdersController],
      providers: [
        Catalogue,
        Story,
        { provide: Diary, useValue: diary },
        { provide: APP_INTERCEPTOR, useClass: DiaryInterceptor },
      ],
    };
  }
}
