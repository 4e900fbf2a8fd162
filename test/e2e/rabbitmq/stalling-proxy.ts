import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

/** A proxy that can stall: connections stay open, bytes do not arrive. */
export interface StallingProxy {
  readonly url: string;
  readonly open: number;
  /** From now on nothing is forwarded, in either direction, on old and new connections. */
  stall(): void;
  /** From now on nothing that the broker sends is forwarded. */
  stallBroker(): void;
  /** Forwards the held chunks. */
  resume(): void;
  cut(): void;
  /** Holds everything that the broker sends from these bytes on. */
  holdFrom(bytes: Buffer): void;
  /** Chunks that are held and not forwarded yet. */
  readonly held: number;
  /** Stalls after the broker has sent these bytes, which are still forwarded. */
  stallAfter(bytes: Buffer): void;
  close(): Promise<void>;
}

export async function startStallingProxy(brokerUrl: string): Promise<StallingProxy> {
  const target = new URL(brokerUrl);
  const sockets = new Set<Socket>();
  const held: (() => void)[] = [];
  let isStalled = false;
  let last: Buffer | undefined;
  let firstHeld: Buffer | undefined;
  let isHolding = false;
  const pass = (from: Socket, to: Socket, isInspected: boolean): void => {
    // The bytes that are waited for may be in two chunks.
    let before = Buffer.alloc(0);
    from.on('data', (chunk: Buffer) => {
      const seen = Buffer.concat([before, chunk]);
      before = seen.subarray(-64);
      const has = (bytes: Buffer | undefined): boolean => {
        const at = isInspected && bytes !== undefined ? seen.lastIndexOf(bytes) : -1;
        return at >= 0 && at + bytes!.length > seen.length - chunk.length;
      };
      isHolding ||= has(firstHeld);
      if (isStalled || (isInspected && isHolding)) return void held.push(() => to.write(chunk));
      to.write(chunk);
      if (has(last)) isStalled = true;
    });
    from.on('error', () => {});
    from.on('close', () => {
      sockets.delete(from);
      if (isStalled) held.push(() => to.destroy());
      else to.destroy();
    });
  };
  const server = createServer((client) => {
    const broker = connect({ host: target.hostname, port: Number(target.port) });
    client.setNoDelay(true);
    broker.setNoDelay(true);
    sockets.add(client).add(broker);
    pass(client, broker, false);
    pass(broker, client, true);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxied = new URL(brokerUrl);
  proxied.port = String((server.address() as AddressInfo).port);
  const cut = (): void => {
    held.length = 0;
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    url: proxied.href,
    get open() {
      return sockets.size;
    },
    stall: () => {
      isStalled = true;
    },
    stallBroker: () => {
      isHolding = true;
    },
    resume: () => {
      isStalled = isHolding = false;
      last = firstHeld = undefined;
      for (const go of held.splice(0)) go();
    },
    holdFrom: (bytes) => {
      firstHeld = bytes;
    },
    get held() {
      return held.length;
    },
    stallAfter: (bytes) => {
      last = bytes;
    },
    cut,
    close: async () => {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}
