import { randomUUID } from 'node:crypto';
import { connect } from 'amqplib';
import { prefetch, Queue } from '../../queues.mjs';
import { roundOfRequests } from '../../requests.mjs';

const directReply = 'amq.rabbitmq.reply-to';
const contentType = 'application/json';

/**
 * The same guarantees by hand: requests mandatory and confirmed, acknowledged once the reply is confirmed.
 */
export async function open({ url, messages, inFlight }) {
  const queue = await Queue.open(url, 'raw');
  await queue.declare();
  let tally;
  const serving = await connect(url, { noDelay: true });
  await serve(await serving.createConfirmChannel(), queue.name, (order) => {
    tally.handled(order);
    return order;
  });
  const calling = await connect(url, { noDelay: true });
  const request = await openCaller(await calling.createConfirmChannel(), queue.name);
  return {
    round: () => roundOfRequests({ messages, inFlight, begin: (fresh) => (tally = fresh), request }),
    async close() {
      await queue.settled();
      await calling.close();
      await serving.close();
      await queue.expect(0);
      await queue.delete();
    },
  };
}

async function serve(channel, queue, handle) {
  await channel.prefetch(prefetch);
  await channel.consume(queue, (message) => {
    const { replyTo, correlationId } = message.properties;
    const reply = Buffer.from(JSON.stringify(handle(JSON.parse(message.content.toString()))));
    channel.publish('', replyTo, reply, { correlationId, contentType }, (error) => {
      if (!error) channel.ack(message);
    });
  });
}

async function openCaller(channel, queue) {
  const waiting = new Map();
  const take = (id) => {
    const waiter = waiting.get(id);
    waiting.delete(id);
    return waiter;
  };
  const fail = (id, error) => take(id)?.reject(error);
  channel.on('return', ({ properties }) =>
    fail(properties.correlationId, new Error('nobody takes requests')),
  );
  const onReply = ({ properties, content }) =>
    take(properties.correlationId)?.resolve(JSON.parse(content.toString()));
  await channel.consume(directReply, onReply, { noAck: true });
  return (order) =>
    new Promise((resolve, reject) => {
      const correlationId = randomUUID();
      waiting.set(correlationId, { resolve, reject });
      const options = { correlationId, replyTo: directReply, mandatory: true, persistent: true, contentType };
      channel.publish('', queue, Buffer.from(JSON.stringify(order)), options, (error) => {
        if (error) fail(correlationId, error);
      });
    });
}
