import type { ChannelModel } from 'amqplib';
import type { Socket } from 'node:net';

/** Fields of amqplib's connection that its type definitions omit. */
interface ConnectionInternals {
  readonly stream: Socket;
  readonly heartbeater?: { clear(): void } | null;
}

function internalsOf(model: ChannelModel): ConnectionInternals {
  return model.connection as unknown as ConnectionInternals;
}

/**
 * Ends a connection without waiting for the broker, which may never answer. The heartbeat timer is cleared
 * as well: it would otherwise keep running and fail minutes later.
 */
export function destroySocket(model: ChannelModel): void {
  const { stream, heartbeater } = internalsOf(model);
  heartbeater?.clear();
  stream.destroy();
}

/**
 * Corks the socket until the next tick, so that the frames of one turn are written together. amqplib writes
 * each frame separately, which costs one system call per acknowledgement.
 */
export function corkWrites(model: ChannelModel): void {
  const socket = internalsOf(model).stream;
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
