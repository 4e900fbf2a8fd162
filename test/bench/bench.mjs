import { writeFile } from 'node:fs/promises';
import { ensure } from '../support/brokers/index.mjs';
import { readArguments } from './arguments.mjs';
import { buildLibrary } from './build.mjs';
import { describeMachine } from './machine.mjs';
import { installPeers } from './peers.mjs';
import { compare } from './rounds.mjs';
import { rows } from './rows.mjs';
import { deltaLine, tableLines } from './table.mjs';

try {
  await main(readArguments(process.argv.slice(2), rows));
} catch (error) {
  console.error(`ERROR ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}

async function main({ only, rounds, json, profile }) {
  const chosen = rows.filter(({ name }) => only === undefined || only.includes(name));
  buildLibrary();
  for (const against of new Set(chosen.flatMap((row) => row.against))) installPeers(against);
  const needed = new Set(chosen.flatMap(({ broker }) => broker ?? []));
  const brokers = await ensure([...needed]);
  for (const line of describeMachine(brokers)) console.log(line);

  const results = [];
  for (const row of chosen) {
    console.log(`${row.name}: ${row.messages} messages a round, ${rounds} rounds; ${row.what}`);
    results.push(...(await compare(row, { rounds, address: addressOf(brokers[row.broker]), profile })));
  }
  console.log('');
  for (const line of tableLines(results)) console.log(line);
  for (const result of results.filter(({ showsDelta }) => showsDelta)) console.log(deltaLine(result));
  if (json !== undefined) await writeFile(json, results.map(jsonLine).join(''));
}

/** What a subject needs of its broker: `url`, or `brokers`. */
function addressOf(broker) {
  return { url: broker?.url, brokers: broker?.brokers };
}

function jsonLine({ row, against, ratio, low, high, rounds }) {
  return `${JSON.stringify({ row, against, ratio, low, high, rounds })}\n`;
}
