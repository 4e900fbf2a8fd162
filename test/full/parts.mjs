import { lowestNest } from '../matrix/rows.mjs';

/**
 * One command of a part.
 * @typedef {object} Step
 * @property {string} name
 * @property {readonly string[]} [npm] An npm script and its arguments: passes or fails as a whole.
 * @property {readonly string[]} [vitest] Arguments for `vitest run`: each test is counted.
 * @property {string} [nest] A version of Nest, in a copy of this checkout; by default the installed one.
 * @property {string} [node] The major version of Node that runs it; by default the one that runs this.
 * @property {Readonly<Record<string, string>>} [env]
 */

/**
 * What a kill or a churn meets depends on the seed, so each seed covers other moments.
 * @param {readonly string[]} files
 * @param {readonly number[]} seeds
 * @returns {Step[]}
 */
const withSeeds = (files, seeds) =>
  seeds.map((seed) => ({ name: `seed ${seed}`, vitest: files, env: { STORK_SEED: String(seed) } }));

/**
 * On another Node only what needs no broker: the clients of the brokers are pure JavaScript.
 * @param {string} node
 * @returns {Step[]}
 */
const onNode = (node) => [
  { name: 'unit, memory', node, vitest: ['--project', 'unit', '--project', 'memory'] },
  {
    name: 'package, tour',
    node,
    vitest: ['--project', 'built', 'test/package', 'test/e2e/tour.e2e.spec.ts'],
    env: { STORK_SKIP_BROKERS: '1' },
  },
];

/** Each of them takes 20 minutes at most on two cores. @type {Readonly<Record<string, readonly Step[]>>} */
export const parts = {
  usual: [
    { name: 'checks', npm: ['checks'] },
    { name: 'tests', vitest: [] },
  ],
  'rabbitmq-4': [
    {
      name: 'RabbitMQ 4.0',
      vitest: [
        'test/contract/rabbitmq',
        'test/e2e/rabbitmq',
        'test/e2e/ported',
        'test/e2e/kills/rabbitmq',
        'rabbitmq.e2e',
      ],
      env: { STORK_RABBITMQ: '4' },
    },
  ],
  'kafka-3.9': [
    {
      name: 'Kafka 3.9',
      vitest: [
        'test/contract/kafka',
        'test/e2e/kafka',
        'test/e2e/ported',
        'test/e2e/kills/kafka',
        'kafka.e2e',
        'test/unit/support/kafka-servers',
      ],
      env: { STORK_KAFKA: '3.9' },
    },
  ],
  soak: [
    {
      name: 'five minutes of churn',
      vitest: ['test/e2e/kafka/rebalance-churn'],
      env: { STORK_CHURN_MS: '300000' },
    },
    ...withSeeds(['test/e2e/kills', 'test/e2e/kafka/rebalance-churn'], [1, 2, 3]),
  ],
  'node-22': onNode('22'),
  'node-24': onNode('24'),
  'nest-11': [
    {
      name: 'the lowest version: memory',
      nest: lowestNest,
      vitest: ['--project', 'unit', '--project', 'memory'],
    },
    {
      name: 'the newest version: memory, contract suite on both brokers',
      nest: '11',
      vitest: ['--project', 'memory', '--project', 'brokers', 'test/contract', 'test/e2e/nest'],
    },
  ],
  matrix: [{ name: 'every row', npm: ['test:matrix'] }],
};
