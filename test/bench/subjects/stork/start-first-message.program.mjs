import { Controller } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { decorate } from '../../decorate.mjs';
import { pattern } from '../../order.mjs';
import { startApp } from './app.mjs';

const [url, queue] = process.argv.slice(2);
let handled;
const first = new Promise((resolve) => {
  handled = resolve;
});
class Orders {
  created() {
    console.log('handled');
    handled();
  }
}
decorate(Orders, [Controller()], { created: { on: [EventPattern(pattern)] } });
const app = await startApp(rabbitmq({ url, queue }), [Orders]);
await first;
await app.close();
