import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A proxy that changes what the broker sends. */
export interface RewritingProxy {
  readonly url: string;
  /** Connections that clients have opened so far. */
  readonly opened: number;
  /** Replaces bytes by others of the same length, from now on. */
  replace(bytes: Buffer, by: Buffer): void;
  close(): Promise<void>;
}

export async function startRewritingProxy(brokerUrl: string): Promise<RewritingProxy> {
  const target = new URL(brokerUrl);
  const sockets = new Set<Socket>();
  const replacements: { readonly bytes: Buffer; readonly by: Buffer }[] = [];
  let opened = 0;
  const server = createServer((client) => {
    opened++;
    const broker = connect({ host: target.hostname, port: Number(target.port) });
    for (const [socket, other] of [
      [client, broker],
      [broker, client],
    ] as const) {
      sockets.add(socket.setNoDelay(true));
      socket.on('error', () => {}).on('close', () => other.destroy());
    }
    client.pipe(broker);
    broker.on('data', (chunk: Buffer) => {
      for (const { bytes, by } of replacements) {
        const at = chunk.indexOf(bytes);
        if (at >= 0) by.copy(chunk, at);
      }
      client.write(chunk);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxied = new URL(brokerUrl);
  proxied.hostname = '127.0.0.1';
  proxied.port = String((server.address() as AddressInfo).port);
  return {
    url: proxied.href,
    get opened() {
      return opened;
    },
    replace: (bytes, by) => {
      if (bytes.length !== by.length) throw new Error('the replacement must be as long as what it replaces');
      replacements.push({ bytes, by });
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
