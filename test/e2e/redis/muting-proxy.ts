import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A proxy that stalls existing connections silently, while new ones work. */
export interface MutingProxy {
  readonly url: string;
  /** Number of accepted connections. */
  readonly taken: number;
  /** From now on nothing is forwarded on existing connections, not even their end. */
  muteOld(): void;
  /** Whether new connections stall, too. */
  muteNew(isMute: boolean): void;
  close(): Promise<void>;
}

export async function startMutingProxy(brokerUrl: string): Promise<MutingProxy> {
  const target = new URL(brokerUrl);
  const sockets = new Set<Socket>();
  const mute = new Set<Socket>();
  let isNewMute = false;
  let taken = 0;
  const pass = (from: Socket, to: Socket, client: Socket): void => {
    sockets.add(from);
    from.on('data', (chunk: Buffer) => void (mute.has(client) || to.write(chunk)));
    from.on('end', () => void (mute.has(client) || to.end()));
    from.on('error', () => {});
    from.on('close', () => sockets.delete(from));
  };
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const broker = connect({ host: target.hostname, port: Number(target.port), allowHalfOpen: true });
    taken++;
    if (isNewMute) mute.add(client);
    pass(client, broker, client);
    pass(broker, client, client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxied = new URL(brokerUrl);
  proxied.port = String((server.address() as AddressInfo).port);
  return {
    url: proxied.href,
    get taken() {
      return taken;
    },
    muteOld: () => {
      for (const socket of sockets) mute.add(socket);
    },
    muteNew: (isMute) => {
      isNewMute = isMute;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
