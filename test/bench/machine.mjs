import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';

const titles = { rabbitmq: 'RabbitMQ', kafka: 'Kafka', redis: 'Redis' };

/** The machine and versions, without which a result cannot be interpreted. */
export function describeMachine(brokers) {
  const cores = cpus();
  const lines = [
    `${process.platform} ${process.arch}, ${cores.length} x ${cores[0]?.model.trim() ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    `Node ${process.versions.node}, Nest ${versionOf('@nestjs/core')}, amqplib ${versionOf('amqplib')}, kafkajs ${versionOf('kafkajs')}`,
  ];
  const described = Object.entries(brokers).map(
    ([name, { version, how }]) => `${titles[name]} ${version ?? 'of unknown version'} (${how})`,
  );
  return [...lines, ...described];
}

function versionOf(name) {
  const file = new URL(`../../node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, 'utf8')).version;
}
