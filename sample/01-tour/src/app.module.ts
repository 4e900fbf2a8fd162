import { Module, type DynamicModule } from '@nestjs/common';
import { StorkModule } from 'nestjs-stork';
import type { ShopTransports } from './broker-choice.js';
import { Ledger } from './ledger.js';
import { LettersController } from './letters.controller.js';
import { OrdersController } from './orders.controller.js';
import { ShopService } from './shop.service.js';

@Module({})
export class AppModule {
  static over({ shop, letters }: ShopTransports): DynamicModule {
    return {
      module: AppModule,
      imports: [StorkModule.forRoot({ transports: { shop, letters } })],
      controllers: [OrdersController, LettersController],
      providers: [ShopService, Ledger],
    };
  }
}
