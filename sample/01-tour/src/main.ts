import 'reflect-metadata';
import { ValidationPipe } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { getClientToken, RemoteError, StorkClient, storkMicroservice } from 'nestjs-stork';
import { AppModule } from './app.module.js';
import { chooseBroker, type ShopTransports } from './broker-choice.js';
import { Ledger, messageIdOf } from './ledger.js';
import { readOrderFile, type OrderLine } from './order-file.js';
import type { Quote } from './order.dto.js';
import { Story } from './story.js';

const inFlight = 100;
const patienceMs = 20_000;

try {
  const { name, transports } = chooseBroker(process.argv.slice(2));
  const lines = await readOrderFile();
  const story = new Story(lines);
  story.begin(name);
  const ledger = await runShop(transports, lines, story);
  story.tell(ledger);
  story.close(ledger);
  if (ledger.doubts(lines.length).length > 0) process.exitCode = 1;
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}

/** Starts the shop, sends it every line, and closes it when each line has its outcome. */
async function runShop(
  transports: ShopTransports,
  lines: readonly OrderLine[],
  story: Story,
): Promise<Ledger> {
  const app = await NestFactory.createMicroservice(AppModule.over(transports), {
    ...storkMicroservice(),
    // Each dead letter is a warning in the log. Here that is what the tour is about, and it tells the story itself.
    logger: ['fatal'],
  });
  app.useGlobalPipes(new ValidationPipe({ whitelist: true, transform: true }));
  try {
    await app.listen();
    const shop = app.get<StorkClient>(getClientToken('shop'));
    const ledger = app.get(Ledger);
    await ask(shop, story);
    ledger.onEntry = (count) => story.progress(count);
    await publishAll(lines, shop);
    await ledger.whenComplete(lines.length, patienceMs);
    return ledger;
  } finally {
    await app.close();
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

/** In the order of the file, a hundred on their way at a time: all senders take their next line from one iterator. */
async function publishAll(lines: readonly OrderLine[], shop: StorkClient): Promise<void> {
  const rest = lines.values();
  const send = async (): Promise<void> => {
    for (const line of rest) await publish(line, shop);
  };
  await Promise.all(Array.from({ length: inFlight }, send));
}

/** Resolves when the broker has the message, not when it is handled. */
async function publish({ number, text, event }: OrderLine, shop: StorkClient): Promise<void> {
  const messageId = messageIdOf(number);
  if (event === undefined) {
    // Bytes go out as they are, whatever the content type says of them: so a broken sender is played.
    await shop.publish('order.created', Buffer.from(text), { messageId, contentType: 'application/json' });
  } else {
    const { type, key, data } = event;
    await shop.publish(type, data, key === undefined ? { messageId } : { messageId, key });
  }
}
