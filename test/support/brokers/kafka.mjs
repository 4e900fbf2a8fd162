import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { canInstall, install } from './apt.mjs';
import { newClusterId } from './cluster-id.mjs';
import { home, isVersion } from './instances.mjs';
import { formatArguments, nodeIdOf, openPortOf, settingsOf } from './kafka-settings.mjs';
import { cleanEnvironment, run, spawnDetached } from './processes.mjs';
import { askKafka } from './probes.mjs';

/** Kafka 4 runs on Java 17 and later. */
const oldestJava = 17;

/** @type {import('./kinds.mjs').Broker} */
export const kafka = {
  variable: 'KAFKA_BROKERS',
  limitMs: 180_000,
  hint: 'a container engine that runs, or Java 17 and Maven (Debian: packages default-jre-headless and maven), or KAFKA_BROKERS',
  url: (port) => `127.0.0.1:${port}`,
  probe: askKafka,
  ask: (instance) => askKafka({ host: '127.0.0.1', port: openPortOf(instance) }, namedNodes(instance)),
  release: releaseOf,
  canRun: async () => canInstall() || (await missingParts()).length === 0,
  install: installKafka,
  launch: async (instance) => {
    const { folder } = instance;
    const properties = join(folder, 'server.properties');
    const env = cleanEnvironment({ HOME: folder });
    const temporary = join(folder, 'tmp');
    mkdirSync(temporary, { recursive: true });
    writeFileSync(properties, settingsOf(instance).join('\n'));
    const log = `-Dlog4j2.configurationFile=${join(folder, 'log4j2.properties')}`;
    writeFileSync(join(folder, 'log4j2.properties'), logging.join('\n'));
    // No files in the machine's own temporary folder.
    const java = [
      '-XX:-UsePerfData',
      log,
      `-Djava.io.tmpdir=${temporary}`,
      '-cp',
      `${librariesOf(instance)}/*`,
    ];
    if (!existsSync(join(folder, 'data', 'meta.properties'))) {
      const cluster = instance.kafka?.cluster?.clusterId ?? newClusterId();
      const format = ['kafka.tools.StorageTool', 'format', '--cluster-id', cluster, '-c', properties];
      const args = ['-XX:TieredStopAtLevel=1', ...java, ...format, ...formatArguments(instance)];
      await run('java', args, { env, cwd: folder });
    }
    const machine = instance.isThrowAway ? smallMachine : ['-Xmx768m'];
    const args = [...machine, ...java, 'kafka.Kafka', properties];
    return spawnDetached('java', args, { env, cwd: folder, log: join(folder, 'log') });
  },
};

/** Several run side by side in a test, none of them for long. */
const smallMachine = ['-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];

/**
 * A node of a cluster answers for the others before it is one of them itself.
 * @param {import('./instances.mjs').Instance} instance
 */
function namedNodes(instance) {
  return instance.kafka?.cluster ? [nodeIdOf(instance)] : [];
}

const logging = [
  'status = error',
  'rootLogger.level = warn',
  'rootLogger.appenderRef.console.ref = console',
  'appender.console.type = Console',
  'appender.console.name = console',
  'appender.console.layout.type = PatternLayout',
  'appender.console.layout.pattern = %d %p %c{1} %m%n',
  '',
];

/** @param {import('./instances.mjs').Instance} instance */
async function installKafka(instance) {
  const libraries = librariesOf(instance);
  const missing = await missingParts(!existsSync(libraries));
  if (missing.length > 0) await install(missing);
  if (existsSync(libraries)) return;
  const version = releaseOf(instance);
  process.stderr.write(`fetching Kafka ${version}\n`);
  const made = `${libraries}.new`;
  rmSync(made, { recursive: true, force: true });
  mkdirSync(made, { recursive: true });
  writeFileSync(join(made, 'pom.xml'), project(version));
  const repository = `-Dmaven.repo.local=${join(home, 'cache', 'maven')}`;
  const copy = ['dependency:copy-dependencies', `-DoutputDirectory=${made}`, '-DincludeScope=runtime'];
  await run('mvn', ['-B', '-q', repository, ...copy], { cwd: made });
  // Renamed when complete: an interrupted download starts again.
  renameSync(made, libraries);
}

/** @param {string} version */
function project(version) {
  const dependencies = [
    ['org.apache.kafka', 'kafka_2.13', version],
    ['org.apache.logging.log4j', 'log4j-core', '2.25.2'],
    ['org.apache.logging.log4j', 'log4j-slf4j-impl', '2.25.2'],
  ].map(
    ([group, artifact, release]) =>
      `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${release}</version></dependency>`,
  );
  return `<project><modelVersion>4.0.0</modelVersion>
<groupId>brokers</groupId><artifactId>kafka</artifactId><version>1</version>
<dependencies>${dependencies.join('\n')}</dependencies></project>
`;
}

/**
 * The Debian packages for what is not there.
 * @param {boolean} [needsMaven]
 */
async function missingParts(needsMaven = true) {
  const missing = [];
  const text = await run('java', ['--version']).catch(() => '');
  if (!(Number(/(\d+)/.exec(text)?.[1]) >= oldestJava)) missing.push('default-jre-headless');
  if (needsMaven && (await run('mvn', ['-v']).catch(() => '')) === '') missing.push('maven');
  return missing;
}

/** @param {import('./instances.mjs').Instance} instance */
function releaseOf({ version }) {
  return version !== undefined && isVersion('3.9', version) ? '3.9.1' : '4.1.1';
}

/** @param {import('./instances.mjs').Instance} instance */
function librariesOf(instance) {
  return join(home, 'cache', `kafka-${releaseOf(instance)}`);
}
