import type { ChannelModel } from 'amqplib';
import type { Socket } from 'node:net';

/** What amqplib's types do not show of a connection. */
interface Inside {
  readonly stream: Socket;
  readonly heartbeater?: { clear(): void } | null;
}

function inside(model: ChannelModel): Inside {
  return model.connection as unknown as Inside;
}

/** Ends a connection whose peer may never answer. Its heartbeat would go on, and fail minutes later. */
export function destroySocket(model: ChannelModel): void {
  const { stream, heartbeater } = inside(model);
  heartbeater?.clear();
  stream.destroy();
}

/**
 * Lets frames that are written in one turn leave together: amqplib hands each to the socket by itself, which is a system call for
 * each acknowledgement. Nothing waits for it: the turn's end is the next tick.
 */
export function writeTogether(model: ChannelModel): void {
  const socket = inside(model).stream;
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
