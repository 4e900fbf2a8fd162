import { connect } from 'amqplib';
import { order } from '../../order.mjs';
import { pump } from '../../pump.mjs';
import { Queue } from '../../queues.mjs';

const options = { mandatory: true, persistent: true, contentType: 'application/json' };

export async function open({ url, messages, inFlight }) {
  const queue = await Queue.open(url, 'raw');
  await queue.declare();
  const model = await connect(url, { noDelay: true });
  const channel = await model.createConfirmChannel();
  let returned = 0;
  channel.on('return', () => returned++);
  const send = (i) =>
    new Promise((resolve, reject) => {
      const body = Buffer.from(JSON.stringify(order(i)));
      channel.publish('', queue.name, body, options, (error) => (error ? reject(error) : resolve()));
    });
  return {
    async round() {
      const ms = await pump(messages, inFlight, send);
      if (returned > 0) throw new Error(`counts do not add up: ${returned} messages returned`);
      await queue.expect(messages);
      await queue.purge();
      return ms;
    },
    async close() {
      await model.close();
      await queue.delete();
    },
  };
}
