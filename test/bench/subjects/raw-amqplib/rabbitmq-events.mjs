import { connect } from 'amqplib';
import { prefetch, Queue } from '../../queues.mjs';
import { Tally } from '../../tally.mjs';

export async function open({ url, messages }) {
  const queue = await Queue.open(url, 'raw');
  await queue.declare();
  const model = await connect(url, { noDelay: true });
  return {
    async round() {
      const tally = new Tally(messages);
      await queue.fill(messages);
      const channel = await model.createChannel();
      await channel.prefetch(prefetch);
      await channel.consume(queue.name, (message) => {
        tally.handled(JSON.parse(message.content.toString()));
        channel.ack(message);
      });
      await tally.complete;
      await queue.settled();
      await channel.close();
      await queue.expect(0);
      return tally.elapsed();
    },
    async close() {
      await model.close();
      await queue.delete();
    },
  };
}
