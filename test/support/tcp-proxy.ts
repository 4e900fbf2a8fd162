import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A proxy between a client and a broker that a test can break. */
export interface TcpProxy {
  readonly port: number;
  /** Resets every connection; new ones are accepted. */
  cut(): void;
  /** Resets every connection, new ones included, until `restore`. */
  breakOff(): void;
  restore(): void;
  close(): Promise<void>;
}

export async function startProxy(target: {
  readonly host: string;
  readonly port: number;
}): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let isBroken = false;
  const keep = (socket: Socket): Socket => {
    sockets.add(socket);
    // The reset of the other end arrives as an error, which a cut causes on purpose.
    return socket.on('error', () => {}).on('close', () => sockets.delete(socket));
  };
  const server = createServer((client) => {
    if (isBroken) return void client.on('error', () => {}).resetAndDestroy();
    const broker = keep(connect(target));
    keep(client).pipe(broker).pipe(client);
    client.on('close', () => broker.destroy());
    broker.on('close', () => client.destroy());
    client.setNoDelay(true);
    broker.setNoDelay(true);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    breakOff: () => {
      isBroken = true;
      cut();
    },
    restore: () => {
      isBroken = false;
    },
    close: async () => {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}
