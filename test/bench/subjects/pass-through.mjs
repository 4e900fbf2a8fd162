import { Controller, UseInterceptors } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { decorate } from '../decorate.mjs';
import { pattern } from '../order.mjs';

class PassThrough {
  intercept(_context, next) {
    return next.handle();
  }
}

/** The controller of the rows on memory: a handler that only counts, and an interceptor that does nothing. */
export function countingController(handled, more = []) {
  class Orders {
    created(order) {
      handled(order);
    }
  }
  const created = {
    on: [EventPattern(pattern), UseInterceptors(new PassThrough()), ...more],
    parameters: [Payload()],
  };
  return decorate(Orders, [Controller()], { created });
}
