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
import { ResultLog } from './result-log.js';
import { readOptions, type TourOptions } from './options.js';
import { readOrderFile, type OrderLine } from './order-file.js';
import type { Quote } from './order.dto.js';
import { OutcomeFile } from './outcome-file.js';
import { publishAll } from './publish.js';
import { ShopService } from './shop.service.js';
import { Report } from './report.js';

/** How long the tour waits for the next outcome; a broker restart may take some of it. */
const waitLimitMs = 120_000;
// Nest's log has a warning per dead letter; the tour prints its own report instead.
const nestOptions = { logger: ['fatal' as const], abortOnError: false };

try {
  const options = readOptions(process.argv.slice(2));
  const broker = await chooseBroker(options);
  const lines = await readOrderFile();
  const report = new Report(lines);
  report.begin(broker.description);
  if (options.isConsuming) {
    const { results, counts } = await runShop(broker, lines, report, options);
    report.tell(results);
    report.close(results, counts, broker.deadLettersCommand);
    // With an inconsistency the queues stay, so that they can be inspected.
    if (results.inconsistencies(lines.length).length > 0) process.exitCode = 1;
    else await broker.cleanUp();
  } else {
    await sendOnly(broker, lines, options);
    report.published('the same command with --consume instead of --publish');
  }
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

/** Starts the shop, publishes every line if asked to, and closes the shop when each line has its outcome. */
async function runShop(
  broker: Broker,
  lines: readonly OrderLine[],
  report: Report,
  { isPublishing, state, pace }: TourOptions,
): Promise<{ readonly results: ResultLog; readonly counts: TransportState['counts'] }> {
  const results = new ResultLog(state === undefined ? undefined : new OutcomeFile(state));
  const module = AppModule.register(broker.transports, results);
  const app = await NestFactory.createMicroservice(module, storkMicroservice(nestOptions));
  app.useGlobalPipes(new ValidationPipe({ whitelist: true, transform: true }));
  app.enableShutdownHooks();
  const before = restore(app.get(ShopService), results, lines);
  if (before > 0) report.remember(before);
  try {
    results.onEntry = (count) => report.progress(count);
    await reaching(broker, app.listen());
    const complete = results.whenComplete(lines.length, waitLimitMs);
    if (isPublishing) {
      const shop = app.get<StorkClient>(getClientToken('shop'));
      await ask(shop, report);
      const sent = publishAll(lines, shop, pace);
      // Publishing fails at once or waits for a broker that is away; the wait limit ends that.
      await Promise.race([complete, sent.then(() => complete)]);
    } else {
      await complete;
    }
    return { results, counts: app.get(StorkService).state()['shop']!.counts };
  } finally {
    await app.close();
  }
}

/** Restores the shop's state from the outcomes. Returns how many lines had one. */
function restore(shop: ShopService, results: ResultLog, lines: readonly OrderLine[]): number {
  const entries = results.entries();
  for (const { line, outcome } of entries) {
    const event = lines[line - 1]?.event;
    if (outcome !== 'handled' || event?.key === undefined) continue;
    shop.restore(event.type === 'order.paid' ? 'paid' : 'placed', event.key);
  }
  return entries.length;
}

/**
 * The same application, but not as a worker: without `app.init()` it declares the queues that it publishes
 * to, and consumes nothing.
 */
async function sendOnly(broker: Broker, lines: readonly OrderLine[], { pace }: TourOptions): Promise<void> {
  const app = await NestFactory.create(AppModule.register(broker.transports, new ResultLog()), nestOptions);
  connectStork(app);
  app.enableShutdownHooks();
  try {
    await reaching(broker, app.startAllMicroservices());
    await publishAll(lines, app.get<StorkClient>(getClientToken('shop')), pace);
  } finally {
    await app.close();
  }
}

/** @throws Error with one line for a person whose broker does not answer */
async function reaching(broker: Broker, start: Promise<unknown>): Promise<void> {
  try {
    await start;
  } catch (error) {
    if (!isStorkError(error) || error.code !== 'CONNECTION_LOST') throw error;
    throw new Error(broker.explainSilence(error.message), { cause: error });
  }
}

async function ask(shop: StorkClient, report: Report): Promise<void> {
  report.asking();
  report.quote(await shop.request<Quote>('order.quote', { sku: 'POT-IRON', quantity: 2 }));
  try {
    await shop.request<Quote>('order.quote', { sku: 'MOON-DUST', quantity: 1 });
  } catch (error) {
    if (!(error instanceof RemoteError)) throw error;
    report.refusal(error);
  }
}
