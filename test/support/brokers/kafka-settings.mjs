import { join } from 'node:path';

/**
 * Settings of a Kafka that differs from a single node without logins.
 * @typedef {object} KafkaLayout
 * @property {{ clusterId: string, nodeId: number, controllers: readonly number[] }} [cluster] The
 * controllers' ports, in the order of their nodes; the first node is 1.
 * @property {{ port: number, address: string }} [proxied] A second listener for clients, and the address that
 * it advertises.
 * @property {{ user: string, password: string, openPort: number }} [sasl] Clients log in; `openPort` needs no
 * login.
 */

/** @typedef {import('./instances.mjs').Instance} Instance */

const host = '127.0.0.1';
const mechanisms = ['PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'];

/**
 * Lines of `server.properties`. Of two lines with the same name Kafka takes the last, so the caller's lines
 * override these.
 * @param {Instance} instance
 */
export function settingsOf(instance) {
  const { innerPort, folder, isThrowAway, kafka: { cluster } = {}, config } = instance;
  const controllers = cluster?.controllers ?? [innerPort];
  const voters = controllers.map((port, i) => `${i + 1}@${host}:${port}`);
  const replicas = Math.min(3, controllers.length);
  return [
    'process.roles=broker,controller',
    `node.id=${nodeIdOf(instance)}`,
    `controller.quorum.voters=${voters.join(',')}`,
    ...listenersOf(instance),
    `log.dirs=${join(folder, 'data')}`,
    `offsets.topic.replication.factor=${replicas}`,
    'offsets.topic.num.partitions=8',
    `transaction.state.log.replication.factor=${replicas}`,
    `transaction.state.log.min.isr=${Math.min(2, replicas)}`,
    'transaction.state.log.num.partitions=8',
    // A group rebalances as soon as its first member joins: by default it waits three seconds for more.
    'group.initial.rebalance.delay.ms=0',
    ...(isThrowAway ? quickFailover : []),
    ...(cluster ? clusterSettings(replicas) : []),
    ...config,
    '',
  ];
}

/**
 * A node that was killed leads its partitions, and cannot come back, until its session is over: nine seconds
 * by default.
 */
const quickFailover = ['broker.session.timeout.ms=4000', 'broker.heartbeat.interval.ms=500'];

/** @param {number} replicas */
function clusterSettings(replicas) {
  return [`default.replication.factor=${replicas}`, `min.insync.replicas=${Math.min(2, replicas)}`];
}

/** @param {Instance} instance */
function listenersOf({ port, innerPort, kafka: { proxied, sasl } = {} }) {
  const clients = [
    { name: 'PLAINTEXT', port: sasl?.openPort ?? port },
    ...(proxied ? [{ name: 'PROXIED', port: proxied.port, address: proxied.address }] : []),
    ...(sasl ? [{ name: 'SASL', port, protocol: 'SASL_PLAINTEXT' }] : []),
  ];
  const controller = { name: 'CONTROLLER', port: innerPort };
  const all = [...clients, controller];
  const protocols = all.map(({ name, protocol = 'PLAINTEXT' }) => `${name}:${protocol}`);
  return [
    `listeners=${all.map((each) => `${each.name}://${host}:${each.port}`).join(',')}`,
    `advertised.listeners=${clients.map((each) => `${each.name}://${each.address ?? `${host}:${each.port}`}`).join(',')}`,
    `controller.listener.names=${controller.name}`,
    `listener.security.protocol.map=${protocols.join(',')}`,
    'inter.broker.listener.name=PLAINTEXT',
    ...(sasl ? loginSettings(sasl) : []),
  ];
}

/** @param {{ user: string, password: string }} login */
function loginSettings({ user, password }) {
  const modules = 'org.apache.kafka.common.security';
  return [
    `listener.name.sasl.sasl.enabled.mechanisms=${mechanisms.join(',')}`,
    `listener.name.sasl.plain.sasl.jaas.config=${modules}.plain.PlainLoginModule required user_${user}="${password}";`,
    ...scramMechanisms.map(
      (name) =>
        `listener.name.sasl.${name.toLowerCase()}.sasl.jaas.config=${modules}.scram.ScramLoginModule required;`,
    ),
  ];
}

const scramMechanisms = mechanisms.filter((name) => name.startsWith('SCRAM'));

/**
 * Arguments with which the data folder is formatted: the users of SCRAM are data, unlike those of PLAIN.
 * @param {Instance} instance
 * @returns {string[]}
 */
export function formatArguments({ kafka: { sasl } = {} }) {
  if (!sasl) return [];
  const { user, password } = sasl;
  return scramMechanisms.flatMap((name) => ['--add-scram', `${name}=[name=${user},password=${password}]`]);
}

/** @param {Instance} instance */
export function nodeIdOf({ kafka }) {
  return kafka?.cluster?.nodeId ?? 1;
}

/** @param {Instance} instance */
export function openPortOf({ port, kafka }) {
  return kafka?.sasl?.openPort ?? port;
}

/**
 * Both are written into settings in which other characters have a meaning.
 * @param {{ user: string, password: string }} login
 */
export function checkLogin(login) {
  for (const name of /** @type {const} */ (['user', 'password'])) {
    if (!/^[\w.-]+$/.test(login[name])) {
      throw new TypeError(
        `sasl.${name}: expected letters, digits, _, . and -, given ${JSON.stringify(login[name])}`,
      );
    }
  }
}
