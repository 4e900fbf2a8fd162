import {
  Controller,
  Injectable,
  Module,
  UseFilters,
  UseGuards,
  UseInterceptors,
  UsePipes,
  type CallHandler,
  type CanActivate,
  type ExecutionContext,
  type NestInterceptor,
  type PipeTransform,
  type Type,
} from '@nestjs/common';
import { MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import { map, type Observable } from 'rxjs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { StorkClient } from 'nestjs-stork';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { Gate } from '../../contract/app.js';
import { reconnect, url, useRaw } from '../rabbitmq/support.js';
import { asJson, ErrorsAsReplies, lenientJson } from './golevelup-support.js';
import { startHybrid, uniqueSource, type Hybrid } from './support.js';

const allowed = 42;
/** Until then the slow one of two requests has no reply. */
const gate = new Gate();

@Injectable()
class Transforming implements NestInterceptor {
  intercept(_: ExecutionContext, next: CallHandler): Observable<unknown> {
    return next.handle().pipe(map((transformed: unknown) => ({ transformed })));
  }
}
@Injectable()
class OnlyAllowed implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    return context.switchToRpc().getData() === allowed;
  }
}
@Injectable()
class RefusingPipe implements PipeTransform {
  transform(value: unknown): unknown {
    if (value !== allowed) throw new RpcException(`expected ${allowed}`);
    return value;
  }
}

/** The handlers that upstream has in a service, in a controller and in the controller of an imported module. */
function rpcHandlers(prefix: string): Type {
  class Handlers {
    @MessagePattern<string>(`${prefix}.echo`)
    echo(@Payload() echo: unknown): unknown {
      return { echo };
    }
    @MessagePattern<string>(`${prefix}.intercepted`)
    @UseInterceptors(Transforming)
    intercepted(): unknown {
      return { message: 42 };
    }
    @MessagePattern<string>(`${prefix}.guarded`)
    @UseGuards(OnlyAllowed)
    @UseFilters(ErrorsAsReplies)
    guarded(): unknown {
      return { message: 'success' };
    }
    @MessagePattern<string>(`${prefix}.piped`)
    @UsePipes(RefusingPipe)
    @UseFilters(ErrorsAsReplies)
    piped(@Payload() message: number): unknown {
      return { message };
    }
    @MessagePattern<string>(`${prefix}.piped-parameter`)
    @UseFilters(ErrorsAsReplies)
    pipedParameter(@Payload(RefusingPipe) message: number): unknown {
      return { message };
    }
    @MessagePattern<string>(`${prefix}.failing`)
    @UseFilters(ErrorsAsReplies)
    failing(@Payload() data: object): never {
      throw new RpcException(data);
    }
    @MessagePattern<string>(`${prefix}.hash.#`)
    hash(): unknown {
      return { message: 'hash' };
    }
    @MessagePattern<string>(`${prefix}.star.*.end`)
    star(): unknown {
      return { message: 'star' };
    }
  }
  return Handlers;
}

@Controller()
class InService extends rpcHandlers('service') {
  @MessagePattern<string>('service.delayed')
  async delayed(@Payload() echo: string): Promise<unknown> {
    if (echo === 'slow') await gate.opened;
    return { echo };
  }
  @MessagePattern<string>('service.shared-1')
  shared1(@Payload() echo: unknown): unknown {
    return { echo, handler: 1 };
  }
  @MessagePattern<string>('service.shared-2')
  shared2(@Payload() echo: unknown): unknown {
    return { echo, handler: 2 };
  }
}
@Controller()
class InController extends rpcHandlers('controller') {}
@Controller()
class InSubmodule extends rpcHandlers('submodule') {}
@Module({ controllers: [InSubmodule] })
class Submodule {}
@Module({ imports: [Submodule], controllers: [InController] })
class MainModule {}

describe.skipIf(url === undefined)('golevelup: requests', () => {
  const raw = useRaw();
  let hybrid: Hybrid;
  let client: StorkClient;

  beforeAll(async () => {
    const exchange = { name: raw().exchange(), type: 'topic' } as const;
    const queue = raw().queue(uniqueSource());
    const main = rabbitmq({ url, queue, exchange, reconnect, codecs: [lenientJson] });
    hybrid = await startHybrid({
      stork: { transports: { main } },
      imports: [MainModule],
      controllers: [InService],
    });
    client = hybrid.client();
  });
  afterAll(() => hybrid.app.close());

  describe.each(['service', 'controller', 'submodule'])('of the handlers in a %s', (prefix) => {
    it('a handler replies', async () => {
      const echo = { request: 'value' };
      expect(await client.request(`${prefix}.echo`, echo)).toEqual({ echo });
    });

    it('an interceptor transforms the reply', async () => {
      expect(await client.request(`${prefix}.intercepted`, undefined)).toEqual({
        transformed: { message: 42 },
      });
    });

    it('an error handler replies for a handler that got bytes and throws', async () => {
      expect(await client.request(`${prefix}.failing`, Buffer.from('{a:'))).toEqual({
        status: 'error',
        message: expect.any(String) as unknown,
      });
    });

    it.each([
      ['an object', Buffer.from('{"request":"value"}'), { request: 'value' }],
      ['an empty body', Buffer.alloc(0), ''],
      ['a body that is no JSON', Buffer.from('{a:'), '{a:'],
    ])('a handler that takes more than JSON replies to %s', async (_, body, echo) => {
      expect(await client.request(`${prefix}.echo`, body, asJson)).toEqual({ echo });
    });
  });

  describe.each(['controller', 'submodule'])('of the handlers in a %s', (prefix) => {
    it.each([
      ['guard', 'guarded', 'Forbidden resource', 'success'],
      ['pipe', 'piped', 'expected 42', 42],
      ['pipe of the parameter', 'piped-parameter', 'expected 42', 42],
    ])('the refusal of a %s is an error reply', async (_, pattern, refusal, reply) => {
      expect(await client.request(`${prefix}.${pattern}`, 41)).toEqual({ status: 'error', message: refusal });
      expect(await client.request(`${prefix}.${pattern}`, 42)).toEqual({ message: reply });
    });

    it.each([
      ['#', 'hash.a.b', 'hash'],
      ['*', 'star.a.end', 'star'],
    ])('a handler with %s replies', async (_, pattern, message) => {
      expect(await client.request(`${prefix}.${pattern}`, 1)).toEqual({ message });
    });
  });

  it('two requests of one correlation get their own replies, the faster one first', async () => {
    const options = { correlationId: 'one' };
    const ended: unknown[] = [];
    const send = async (data: string): Promise<void> => {
      ended.push(await client.request('service.delayed', data, options));
    };
    const slow = send('slow');
    await send('fast');
    gate.open();
    await slow;
    expect(ended).toEqual([{ echo: 'fast' }, { echo: 'slow' }]);
  });

  it.each([1, 2])('of two handlers of one queue the one with the pattern replies: %i', async (handler) => {
    expect(await client.request(`service.shared-${handler}`, { handler })).toEqual({
      echo: { handler },
      handler,
    });
  });

  it('of two handlers of one queue each replies to its own of two requests at once', async () => {
    const replies = await Promise.all([1, 2].map((n) => client.request(`service.shared-${n}`, { n })));
    expect(replies).toEqual([
      { echo: { n: 1 }, handler: 1 },
      { echo: { n: 2 }, handler: 2 },
    ]);
  });
});
