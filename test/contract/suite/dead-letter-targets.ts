import { Controller } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { DeadLetter, type DeadLetterOptions } from 'nestjs-stork';
import { eventually, headerText, startApp, uniqueName } from '../app.js';
import type { DriverHarness } from '../harness.js';

/** Suffix of the dead letter targets; the harnesses of real brokers delete them by it. */
export const targetSuffix = '.special';

/** the dead letter queue or topic of a handler */
export function deadLetterTargetContract(harness: DriverHarness): void {
  const kind = harness.capabilities.destinations.has('topic') ? 'topic' : 'queue';
  const other = kind === 'topic' ? 'queue' : 'topic';

  function newFailing(options: DeadLetterOptions) {
    @Controller()
    class Failing {
      @EventPattern<string>('special')
      @DeadLetter(options)
      special(): never {
        throw new Error('no');
      }
      @EventPattern<string>('plain')
      plain(): never {
        throw new Error('no');
      }
    }
    return Failing;
  }

  it('is the one that the handler names, and the default for other handlers', async () => {
    const source = uniqueName();
    const special = `${source}${targetSuffix}`;
    const Failing = newFailing({ [kind]: `${special}.dlq`, [other]: 'not-here' });
    const { client, deadLetters, settled } = await startApp(harness, { controllers: [Failing], source });
    await client.publish('special', 1);
    await client.publish('plain', 1);
    expect((await deadLetters(1)).map((deadLetter) => headerText(deadLetter, 'stork-handler'))).toEqual([
      'Failing.plain',
    ]);
    const kept = await eventually(async () => {
      const found = await harness.deadLetters(special);
      return found.length === 0 ? undefined : found;
    }, 'a letter in the special place');
    await settled();
    expect(
      kept.map((deadLetter) => [
        headerText(deadLetter, 'stork-handler'),
        headerText(deadLetter, 'stork-origin'),
      ]),
    ).toEqual([['Failing.special', source]]);
  });

  it('is refused if the transport has no such destination, or if it is the source itself', async () => {
    await expect(startApp(harness, { controllers: [newFailing({ [other]: 'elsewhere' })] })).rejects.toThrow(
      `@DeadLetter({ ${other} }) of Failing.special: expected { ${kind} }, in addition or instead: dead letters of the transport "main" go to a ${kind}`,
    );
    const source = uniqueName();
    await expect(
      startApp(harness, { controllers: [newFailing({ [kind]: source })], source }),
    ).rejects.toThrow('expected a queue or topic that the transport does not itself consume');
  });
}
