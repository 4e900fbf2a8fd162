import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientKafka, MessagePattern, Payload } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';
import { decorate } from '../../decorate.mjs';
import { roundOfRequests } from '../../requests.mjs';
import { Topic } from '../../topics.mjs';
import { kafka, serverGroup } from './kafka-options.mjs';

export async function open({ brokers, messages, partitions, inFlight }) {
  const topic = await Topic.open(brokers, 'nest', partitions);
  await topic.create(`${topic.name}.reply`);
  const groupId = `${topic.name}.group`;
  let tally;
  class Orders {
    echo(order) {
      tally.handled(order);
      return order;
    }
  }
  decorate(Orders, [Controller()], { echo: { on: [MessagePattern(topic.name)], parameters: [Payload()] } });
  const App = decorate(class App {}, [Module({ controllers: [Orders] })]);
  const app = await NestFactory.createMicroservice(App, { ...kafka(brokers, groupId), logger: ['error'] });
  await app.listen();
  const client = new ClientKafka(kafka(brokers, groupId).options);
  client.subscribeToResponseOf(topic.name);
  await client.connect();
  return {
    async round() {
      const ms = await roundOfRequests({
        messages,
        inFlight,
        begin: (fresh) => (tally = fresh),
        request: (order) => firstValueFrom(client.send(topic.name, order)),
      });
      await topic.expect(messages);
      return ms;
    },
    async close() {
      await topic.settled(serverGroup(groupId));
      await client.close();
      await app.close();
      await topic.delete();
    },
  };
}
