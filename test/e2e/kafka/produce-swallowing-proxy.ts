import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

const produceKey = 0;

/** A proxy that drops the broker's responses to produce requests, and closes the connection with them. */
export interface SwallowingProxy {
  readonly port: number;
  /** Number of dropped responses. */
  readonly swallowed: number;
  /** Drops responses to produce requests from now on: that many, by default every one, until `restore`. */
  swallow(count?: number): void;
  /** With the next dropped response every connection is reset, and so are new ones, until `restore`. */
  breakOffToo(): void;
  restore(): void;
  /** Resets every connection; new ones are accepted. */
  cut(): void;
  close(): Promise<void>;
}

export async function startSwallowingProxy(port: number): Promise<SwallowingProxy> {
  const sockets = new Set<Socket>();
  let left = 0;
  let swallowed = 0;
  let breaksOff = false;
  let isBroken = false;
  const cut = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const server = createServer((client) => {
    client.on('error', () => {});
    if (isBroken) return void client.resetAndDestroy();
    const broker = connect({ host: '127.0.0.1', port }).on('error', () => {});
    for (const [socket, other] of [
      [client, broker],
      [broker, client],
    ] as const) {
      sockets.add(socket);
      socket.setNoDelay(true).on('close', () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
    /** Correlation ids of produce requests without a response. */
    const produced = new Set<number>();
    const requests = frames((frame) => {
      if (frame.readInt16BE(4) === produceKey) produced.add(frame.readInt32BE(8));
      broker.write(frame);
    });
    const answers = frames((frame) => {
      if (produced.delete(frame.readInt32BE(4)) && left > 0) {
        left--;
        swallowed++;
        isBroken = breaksOff;
        if (isBroken) cut();
        else client.resetAndDestroy();
      } else client.write(frame);
    });
    client.on('data', requests);
    broker.on('data', answers);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    get swallowed() {
      return swallowed;
    },
    swallow: (count = Infinity) => {
      left = count;
    },
    breakOffToo: () => {
      breaksOff = true;
    },
    restore: () => {
      left = 0;
      isBroken = breaksOff = false;
    },
    cut,
    close: async () => {
      cut();
      server.close();
      await once(server, 'close');
    },
  };
}

/** Emits each complete frame: Kafka's frames begin with four bytes of length. */
function frames(take: (frame: Buffer) => void): (chunk: Buffer) => void {
  let held = Buffer.alloc(0);
  return (chunk) => {
    held = Buffer.concat([held, chunk]);
    while (held.length >= 4 && held.length >= 4 + held.readInt32BE(0)) {
      const end = 4 + held.readInt32BE(0);
      take(held.subarray(0, end));
      held = held.subarray(end);
    }
  };
}
