import type { ChannelModel } from 'amqplib';
import type { Socket } from 'node:net';

/** The socket below a connection, which amqplib's types do not show. */
function socketOf(model: ChannelModel): Socket {
  return (model.connection as unknown as { stream: Socket }).stream;
}

export function destroySocket(model: ChannelModel): void {
  socketOf(model).destroy();
}

/**
 * Lets frames that are written in one turn leave together: amqplib hands each to the socket by itself, which is a system call for
 * each acknowledgement. Nothing waits for it: the turn's end is the next tick.
 */
export function writeTogether(model: ChannelModel): void {
  const socket = socketOf(model);
  const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
  let isCorked = false;
  const uncork = (): void => {
    isCorked = false;
    socket.uncork();
  };
  socket.write = (...args: unknown[]): boolean => {
    if (!isCorked) {
      isCorked = true;
      socket.cork();
      process.nextTick(uncork);
    }
    return write(...args);
  };
}
