import { Controller } from '@nestjs/common';
import { EventPattern, MessagePattern, Transport } from '@nestjs/microservices';
import { Test } from '@nestjs/testing';
import { firstValueFrom } from 'rxjs';
import { expect, it, onTestFinished } from 'vitest';
import { StorkClient, storkMicroservice } from 'nestjs-stork';
import type { ObjectPattern, StorkConfigError } from 'nestjs-stork';
import { Seen } from '../../contract/app.js';
import { Shop } from '../support.js';

const hint = 'undefined (is the constant imported from a file that imports this one?)';
const expected = 'expected text that is not empty, a number or an object with fields, given';

async function refusal(controller: new () => object): Promise<StorkConfigError> {
  const testing = await new Shop().compile([controller]);
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  return app.listen().then(
    () => expect.unreachable('it starts'),
    (error: unknown) => error as StorkConfigError,
  );
}

const wrong: [string, unknown, string][] = [
  ['undefined', undefined, `OrdersController.created: pattern: ${expected} ${hint}`],
  ['null', null, `OrdersController.created: pattern: ${expected} null`],
  ['empty text', '', `OrdersController.created: pattern: ${expected} ""`],
  ['NaN', NaN, `OrdersController.created: pattern: ${expected} NaN (number)`],
  ['Infinity', Infinity, `OrdersController.created: pattern: ${expected} Infinity (number)`],
  ['true', true, `OrdersController.created: pattern: ${expected} true (boolean)`],
  ['a bigint', 1n, `OrdersController.created: pattern: ${expected} 1 (bigint)`],
  ['a function', () => 'created', `OrdersController.created: pattern: ${expected} a function`],
  ['an object without fields', {}, `OrdersController.created: pattern: ${expected} an object without fields`],
  ['a date', new Date(), `OrdersController.created: pattern: ${expected} an object without fields`],
  [
    'an object with undefined',
    { cmd: undefined },
    `OrdersController.created: pattern.cmd: expected text, a number, a boolean, null or an object, given ${hint}`,
  ],
  [
    'an object with NaN below',
    { cmd: { version: NaN } },
    'OrdersController.created: pattern.cmd.version: expected text, a number, a boolean, null or an object, given NaN (number)',
  ],
  ['undefined in a list', ['placed', undefined], `OrdersController.created: pattern: ${expected} ${hint}`],
  [
    'an empty list',
    [],
    'OrdersController.created: pattern: expected at least one pattern, given an empty list',
  ],
];

const decorators = {
  EventPattern: (pattern: unknown) => EventPattern<unknown>(pattern),
  MessagePattern: (pattern: unknown) => MessagePattern(pattern),
};

for (const [decorator, decorate] of Object.entries(decorators)) {
  it.each(wrong)(`@${decorator}() with %s stops the start and names the method`, async (_, pattern, text) => {
    @Controller()
    class OrdersController {
      @decorate(pattern)
      created(): void {}
    }
    const error = await refusal(OrdersController);
    expect(error).toMatchObject({ code: 'CONFIG', message: text });
  });
}

it('all wrong patterns of an application are named at once', async () => {
  @Controller()
  class OrdersController {
    @EventPattern<unknown>(undefined)
    created(): void {}
    @MessagePattern<unknown>([null, 'ask', ''])
    ask(): void {}
    @EventPattern<string>('x'.repeat(256))
    long(): void {}
  }
  const { problems } = await refusal(OrdersController);
  expect(problems.map(({ name }) => name)).toEqual([
    'OrdersController.created: pattern',
    'OrdersController.ask: pattern',
    'OrdersController.ask: pattern',
    'pattern of OrdersController.long on the transport "main"',
  ]);
});

it('a handler of another transport may have what that takes', async () => {
  const seen = new Seen<unknown>();
  @Controller()
  class Handlers {
    @EventPattern<unknown>(undefined, Transport.TCP)
    foreign(): void {}
    @EventPattern<unknown>({ cmd: 'created', version: 1, isNew: true, tenant: null })
    created(): void {
      seen.add('created');
    }
    @EventPattern<unknown>(7)
    seven(): void {
      seen.add(7);
    }
  }
  const testing = await new Shop().compile([Handlers]);
  const app = testing.createNestMicroservice({ ...storkMicroservice(), logger: false });
  onTestFinished(() => app.close());
  await app.listen();
  const client = app.get(StorkClient);
  await client.publish({ tenant: null, cmd: 'created', version: 1, isNew: true }, 1);
  await client.publish(7, 1);
  expect(await seen.count(2)).toEqual(['created', 7]);
});

it.each<[unknown, string]>([
  [undefined, `pattern: ${expected} ${hint}`],
  [null, `pattern: ${expected} null`],
  ['', 'pattern: expected 1 to 255 bytes, given ""'],
  [NaN, `pattern: ${expected} NaN (number)`],
  [{}, `pattern: ${expected} an object without fields`],
  [/created/, `pattern: ${expected} a RegExp without fields`],
  [{ cmd: undefined }, `pattern.cmd: expected text, a number, a boolean, null or an object, given ${hint}`],
])('a message with the pattern %j is refused by name', async (pattern, text) => {
  const shop = new Shop();
  const testing = await Test.createTestingModule({ imports: [shop.stork()] }).compile();
  onTestFinished(() => testing.close());
  const client = testing.get(StorkClient);
  const refused = { code: 'CONFIG', message: text };
  await expect(client.publish(pattern as ObjectPattern, 1)).rejects.toMatchObject(refused);
  await expect(client.request(pattern as ObjectPattern, 1)).rejects.toMatchObject(refused);
  // Nest's own clients refuse these two alike.
  const ofNest = pattern === undefined || pattern === null ? { name: 'Error' } : refused;
  await expect(firstValueFrom(client.emit(pattern, 1))).rejects.toMatchObject(ofNest);
  await expect(firstValueFrom(client.send(pattern, 1))).rejects.toMatchObject(ofNest);
});
