import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Payload } from '@nestjs/microservices';
import { decorate } from '../../decorate.mjs';
import { Tally } from '../../tally.mjs';
import { Topic } from '../../topics.mjs';
import { kafka, serverGroup } from './kafka-options.mjs';

/** A topic that is filled and then consumed by one event handler, `handle(tally, order)`. */
export async function openConsumer({ brokers, messages, partitions }, handle) {
  const topic = await Topic.open(brokers, 'nest', partitions);
  const groupId = `${topic.name}.group`;
  let tally;
  class Orders {
    created(order) {
      return handle(tally, order);
    }
  }
  decorate(Orders, [Controller()], { created: { on: [EventPattern(topic.name)], parameters: [Payload()] } });
  const App = decorate(class App {}, [Module({ controllers: [Orders] })]);
  return {
    async round() {
      tally = new Tally(messages);
      await topic.fill(messages);
      const app = await NestFactory.createMicroservice(App, {
        ...kafka(brokers, groupId),
        logger: ['error'],
      });
      await app.listen();
      await tally.complete;
      await topic.settled(serverGroup(groupId));
      await app.close();
      return tally.elapsed();
    },
    close: () => topic.delete(),
  };
}
