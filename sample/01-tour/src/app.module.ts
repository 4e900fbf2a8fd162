import { Module, type DynamicModule } from '@nestjs/common';
import { StorkModule } from 'nestjs-stork';
import type { ShopTransports } from './broker-choice.js';
import { ResultLog } from './result-log.js';
import { DeadLettersController } from './dead-letters.controller.js';
import { OrdersController } from './orders.controller.js';
import { ShopService } from './shop.service.js';

/**
 * Short, because a person waits at the terminal. In production the default, a minute, lets services start in
 * any order.
 */
const startTimeoutMs = 10_000;
/** Most errors of the tour are permanent: the default's retries would only add seconds of waiting. */
const retry = { maxRetries: 0 };

@Module({})
export class AppModule {
  static register({ shop, deadLetters }: ShopTransports, results: ResultLog): DynamicModule {
    return {
      module: AppModule,
      imports: [StorkModule.forRoot({ transports: { shop, deadLetters }, startTimeoutMs, retry })],
      controllers: [OrdersController, DeadLettersController],
      providers: [ShopService, { provide: ResultLog, useValue: results }],
    };
  }
}
