import type { Reporter, TestCase, TestModule } from 'vitest/node';

/** Name of the outermost `describe` of a driver's run, before the driver's own. */
const prefix = 'contract: ';

interface Row {
  common: number;
  capabilities: number;
  failed: number;
  skipped: string[];
}

/**
 * Prints for each driver how many tests of the contract ran, and fails the run where the common table differs between drivers or
 * any of it was skipped: a driver must not pass by leaving things out.
 */
export default class ContractReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    const rows = new Map<string, Row>();
    for (const module of modules) for (const test of module.children.allTests()) count(test, rows);
    if (rows.size === 0) return;
    const width = Math.max(...[...rows.keys()].map((name) => name.length));
    console.log('\n Contract suite, tests that ran');
    for (const [name, row] of rows) {
      if (row.common === 0) {
        // Left out as a whole, which only STORK_SKIP_BROKERS=1 may do.
        console.log(`   ${name.padEnd(width)}  SKIPPED, all ${row.skipped.length} tests: no broker`);
        continue;
      }
      const failed = row.failed > 0 ? `, ${row.failed} failed` : '';
      console.log(
        `   ${name.padEnd(width)}  ${row.common} common, ${row.capabilities} by capability${failed}`,
      );
    }
    const ran = [...rows.values()].filter(({ common }) => common > 0);
    const skipped = ran.flatMap((row) => row.skipped);
    for (const name of skipped) console.log(`   SKIPPED ${name}`);
    const isEven = new Set(ran.map(({ common }) => common)).size <= 1;
    if (!isEven) console.log('   The common tables differ: every driver must run all of it.');
    const isAllowed = process.env['STORK_SKIP_BROKERS'] === '1' || ran.length === rows.size;
    if (skipped.length > 0 || !isEven || !isAllowed) process.exitCode = 1;
  }
}

function count(test: TestCase, rows: Map<string, Row>): void {
  const [suite, table] = test.fullName.split(' > ');
  if (!suite?.startsWith(prefix)) return;
  const name = suite.slice(prefix.length);
  const row = rows.get(name) ?? { common: 0, capabilities: 0, failed: 0, skipped: [] };
  rows.set(name, row);
  const { state } = test.result();
  if (state === 'skipped' || state === 'pending') return void row.skipped.push(test.fullName);
  if (state === 'failed') row.failed++;
  if (table === 'common') row.common++;
  else row.capabilities++;
}
