import { compare } from './rounds.mjs';
import { deltaLine, tableLines } from './table.mjs';

/** Compares the library with each rival of each row, prints the table and gives the lines for `--json`. */
export async function compareWithRivals(rows, { rounds, profile, addressOf }) {
  const results = [];
  for (const row of rows) {
    console.log(`${row.name}: ${row.messages} messages a round, ${rounds} rounds; ${row.what}`);
    const rivals = row.against.map((name) => contender(row, name));
    const contenders = [{ ...contender(row, 'stork'), profile }, ...rivals];
    results.push(...(await compare(row, contenders, { rounds, address: addressOf(row) })));
  }
  console.log('');
  for (const line of tableLines(results)) console.log(line);
  for (const result of results.filter(({ showsDelta }) => showsDelta)) console.log(deltaLine(result));
  return results.map(jsonLine);
}

function contender({ module }, name) {
  return { name, file: new URL(`subjects/${name}/${module}.mjs`, import.meta.url).href };
}

function jsonLine({ row, against, ratio, low, high, rounds }) {
  return { row, against, ratio, low, high, rounds };
}
