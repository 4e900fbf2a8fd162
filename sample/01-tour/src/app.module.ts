import { Module, type DynamicModule } from '@nestjs/common';
import { StorkModule } from 'nestjs-stork';
import type { ShopTransports } from './broker-choice.js';
import { Ledger } from './ledger.js';
import { LettersController } from './letters.controller.js';
import { OrdersController } from './orders.controller.js';
import { ShopService } from './shop.service.js';

/** Somebody waits at a terminal; in production the default of a minute lets a broker and its users start in any order. */
const startTimeoutMs = 10_000;
/** Most of what fails here fails for good: waiting seconds for it, as the default would, shows nothing. */
const retry = { maxRetries: 0 };

@Module({})
export class AppModule {
  static over({ shop, deadLetters }: ShopTransports, ledger: Ledger): DynamicModule {
    return {
      module: AppModule,
      imports: [StorkModule.forRoot({ transports: { shop, deadLetters }, startTimeoutMs, retry })],
      controllers: [OrdersController, LettersController],
      providers: [ShopService, { provide: Ledger, useValue: ledger }],
    };
  }
}
