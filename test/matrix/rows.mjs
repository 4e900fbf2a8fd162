/**
 * The packages that a team has, installed together with the library.
 * @typedef {object} Stack
 * @property {string} name
 * @property {Readonly<Record<string, string>>} packages Name → version.
 */

/**
 * An application on a stack.
 * @typedef {object} Row
 * @property {string} name
 * @property {Stack} stack
 * @property {'commonjs' | 'module'} type Of the application's `package.json`.
 * @property {Readonly<Record<string, unknown>>} compiler Options besides those of `project.mjs`.
 * @property {'node' | 'jest' | 'jest-vm-modules' | 'vitest'} runner
 * @property {readonly { readonly version: string, readonly flags?: readonly string[] }[]} [nodes] Besides that of this process.
 */

/** @param {string} version */
const nest = (version) =>
  Object.fromEntries(
    ['common', 'core', 'microservices', 'platform-express', 'testing'].map((name) => [
      `@nestjs/${name}`,
      version,
    ]),
  );

/**
 * @param {string} version
 * @param {string} types Version of its types.
 */
const jest = (version, types) => ({ jest: version, '@types/jest': types, 'ts-jest': '^29.4.0' });

const common = {
  'class-transformer': '^0.5.1',
  'class-validator': '^0.14.0',
  'reflect-metadata': '^0.2.0',
  rxjs: '^7.8.1',
};

/** The lowest of each range of `peerDependencies`. */
export const lowestNest = '11.1.2';
const lowestNest12 = '12.0.1';

/** @satisfies {Record<string, Stack>} */
export const stacks = {
  lowest11: {
    name: 'nest-11-lowest',
    packages: {
      ...nest(lowestNest),
      ...jest('^29.7.0', '^29.5.0'),
      ...common,
      'reflect-metadata': '0.1.14',
      typescript: '~5.7.3',
      '@types/node': '^20.0.0',
    },
  },
  newest11: {
    name: 'nest-11',
    packages: {
      ...nest('^11.2.0'),
      ...jest('^30.0.0', '^30.0.0'),
      ...common,
      esbuild: '^0.25.0',
      typescript: '~5.9.0',
      '@types/node': '^24.0.0',
    },
  },
  lowest12: {
    name: 'nest-12-lowest',
    packages: { ...nest(lowestNest12), ...common, typescript: '^6.0.2', '@types/node': '^24.0.0' },
  },
  newest12: {
    name: 'nest-12',
    packages: {
      ...nest('^12.0.0'),
      ...jest('^30.0.0', '^30.0.0'),
      ...common,
      vitest: '^4.1.0',
      esbuild: '^0.25.0',
      typescript: '^6.0.2',
      '@types/node': '^24.0.0',
    },
  },
};

const formats = {
  'commonjs, node10': { type: 'commonjs', compiler: { module: 'commonjs', moduleResolution: 'node10' } },
  'commonjs, node16': { type: 'commonjs', compiler: { module: 'node16', moduleResolution: 'node16' } },
  'ESM, nodenext': { type: 'module', compiler: { module: 'nodenext', moduleResolution: 'nodenext' } },
  'ESM, bundler': { type: 'module', compiler: { module: 'preserve', moduleResolution: 'bundler' } },
};
/** As `nest new` makes it. */
const commonjs = {
  type: 'commonjs',
  compiler: { module: 'nodenext', moduleResolution: 'nodenext', isolatedModules: true },
};
const esm = formats['ESM, nodenext'];

/** The lowest of each range of `engines`, then the newest. */
export const nodes = [
  { version: '20.19.0' },
  // It still calls `require()` of an ESM module experimental, in a warning.
  { version: '22.12.0', flags: ['--disable-warning=ExperimentalWarning'] },
  { version: '22' },
  { version: '24' },
];

/** @type {readonly Row[]} */
export const rows = [
  ...[stacks.lowest11, stacks.newest11].flatMap((stack) =>
    Object.entries(formats).map(([name, format]) => ({
      name: `${stack.name}: ${name}`,
      stack,
      ...format,
      runner: 'node',
      ...(name === 'commonjs, node16' ? { nodes } : {}),
    })),
  ),
  { name: 'nest-12-lowest: ESM', stack: stacks.lowest12, ...esm, runner: 'node' },
  { name: 'nest-12: ESM', stack: stacks.newest12, ...esm, runner: 'node', nodes },
  { name: 'nest-12: commonjs', stack: stacks.newest12, ...commonjs, runner: 'node', nodes },
  { name: 'nest-11-lowest: Jest 29', stack: stacks.lowest11, ...formats['commonjs, node10'], runner: 'jest' },
  { name: 'nest-11: Jest 30', stack: stacks.newest11, ...commonjs, runner: 'jest' },
  { name: 'nest-12: Jest 30, vm modules', stack: stacks.newest12, ...commonjs, runner: 'jest-vm-modules' },
  { name: 'nest-12: Vitest', stack: stacks.newest12, ...esm, runner: 'vitest' },
];
