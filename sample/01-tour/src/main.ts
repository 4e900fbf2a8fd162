import 'reflect-metadata';
import { ValidationPipe } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  connectStork,
  getClientToken,
  isStorkError,
  RemoteError,
  StorkClient,
  storkMicroservice,
  StorkService,
  type TransportState,
} from 'nestjs-stork';
import { AppModule } from './app.module.js';
import { chooseBroker, type Broker } from './broker-choice.js';
import { Ledger } from './ledger.js';
import { readOptions, type TourOptions } from './options.js';
import { readOrderFile, type OrderLine } from './order-file.js';
import type { Quote } from './order.dto.js';
import { OutcomeFile } from './outcome-file.js';
import { publishAll } from './publish.js';
import { ShopService } from './shop.service.js';
import { Story } from './story.js';

/** So long the tour waits for one more outcome; a broker that is started again may take its time. */
const patienceMs = 120_000;
// Each dead letter is a warning in the log. Here that is what the tour is about, and it tells the story itself.
const nestOptions = { logger: ['fatal' as const], abortOnError: false };

try {
  const options = readOptions(process.argv.slice(2));
  const broker = await chooseBroker(options);
  const lines = await readOrderFile();
  const story = new Story(lines);
  story.begin(broker.description);
  if (options.isConsuming) {
    const { ledger, counts } = await runShop(broker, lines, story, options);
    story.tell(ledger);
    story.close(ledger, counts, broker.lettersCommand);
    // Where something does not add up, the queues are left for a look.
    if (ledger.doubts(lines.length).length > 0) process.exitCode = 1;
    else await broker.cleanUp();
  } else {
    await sendOnly(broker, lines, options);
    story.published('the same command with --consume instead of --publish');
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

/** Starts the shop, sends it every line if that is its task too, and closes it when each line has its outcome. */
async function runShop(
  broker: Broker,
  lines: readonly OrderLine[],
  story: Story,
  { isPublishing, state, pace }: TourOptions,
): Promise<{ readonly ledger: Ledger; readonly counts: TransportState['counts'] }> {
  const ledger = new Ledger(state === undefined ? undefined : new OutcomeFile(state));
  const app = await NestFactory.createMicroservice(AppModule.over(broker.transports, ledger), {
    ...storkMicroservice(),
    ...nestOptions,
  });
  app.useGlobalPipes(new ValidationPipe({ whitelist: true, transform: true }));
  const before = restore(app.get(ShopService), ledger, lines);
  if (before > 0) story.remember(before);
  try {
    ledger.onEntry = (count) => story.progress(count);
    await reaching(broker, app.listen());
    const complete = ledger.whenComplete(lines.length, patienceMs);
    if (isPublishing) {
      const shop = app.get<StorkClient>(getClientToken('shop'));
      await ask(shop, story);
      const sent = publishAll(lines, shop, pace);
      // Sending fails at once, or waits for a broker that is away: then the patience ends it.
      await Promise.race([complete, sent.then(() => complete)]);
    } else {
      await complete;
    }
    return { ledger, counts: app.get(StorkService).state()['shop']!.counts };
  } finally {
    await app.close();
  }
}

/** Gives the shop its memory back. Returns how many lines the ledger knew. */
function restore(shop: ShopService, ledger: Ledger, lines: readonly OrderLine[]): number {
  const entries = ledger.entries();
  for (const { line, outcome } of entries) {
    const event = lines[line - 1]?.event;
    if (outcome !== 'handled' || event?.key === undefined) continue;
    shop.restore(event.type === 'order.paid' ? 'paid' : 'placed', event.key);
  }
  return entries.length;
}

/**
 * The same application, but not as a worker: without `app.init()` it declares the queues, so that there is something to send to, and
 * consumes nothing.
 */
async function sendOnly(broker: Broker, lines: readonly OrderLine[], { pace }: TourOptions): Promise<void> {
  const app = await NestFactory.create(AppModule.over(broker.transports, new Ledger()), nestOptions);
  connectStork(app);
  try {
    await reaching(broker, app.startAllMicroservices());
    await publishAll(lines, app.get<StorkClient>(getClientToken('shop')), pace);
  } finally {
    await app.close();
  }
}

/** @throws Error with one line for the person who has no such broker */
async function reaching(broker: Broker, start: Promise<unknown>): Promise<void> {
  try {
    await start;
  } catch (error) {
    if (!isStorkError(error) || error.code !== 'CONNECTION_LOST') throw error;
    throw new Error(broker.explainSilence(error.message), { cause: error });
  }
}

async function ask(shop: StorkClient, story: Story): Promise<void> {
  story.asking();
  story.quote(await shop.request<Quote>('order.quote', { sku: 'POT-IRON', quantity: 2 }));
  try {
    await shop.request<Quote>('order.quote', { sku: 'MOON-DUST', quantity: 1 });
  } catch (error) {
    if (!(error instanceof RemoteError)) throw error;
    story.refusal(error);
  }
}
