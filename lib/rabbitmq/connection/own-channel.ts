import type { Channel, ChannelModel } from 'amqplib';
import type { StorkClock } from '../../core/runtime/clock.js';
import { brokerRpc } from './broker-rpc.js';

/**
 * Runs AMQP methods on a channel of their own. RabbitMQ closes the channel of a method that it refuses; on a
 * shared channel every other operation would fail too.
 */
export async function onOwnChannel<T>(
  model: ChannelModel,
  clock: StorkClock,
  use: (channel: Channel) => Promise<T>,
): Promise<T> {
  const channel = await brokerRpc(clock, () => model.createChannel());
  // Without a listener, Node would throw the channel error in amqplib's read loop.
  channel.on('error', () => {});
  try {
    return await brokerRpc(clock, () => use(channel));
  } finally {
    // A refusal has closed it already, and amqplib then throws synchronously.
    await brokerRpc(clock, () => channel.close()).catch(() => {});
  }
}
