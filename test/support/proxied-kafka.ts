import { throwAway, type ThrowAway, type ThrowAwayOptions } from './brokers/index.mjs';
import { freePort } from './brokers/parts.mjs';
import { startProxy, type TcpProxy } from './tcp-proxy.js';

/** A Kafka of its own that can be reached directly and through a proxy that a test can cut. */
export interface ProxiedKafka {
  /** `brokers` is the direct address. */
  readonly server: ThrowAway<'kafka'>;
  /** Clients that connect here learn no other address. */
  readonly proxied: readonly string[];
  readonly proxy: TcpProxy;
  close(): Promise<void>;
}

export async function startProxiedKafka(
  options: Pick<ThrowAwayOptions, 'version' | 'config'> = {},
): Promise<ProxiedKafka> {
  // The broker needs the proxy's address, the proxy the broker's: one of the two ports is chosen before.
  const port = await freePort();
  const proxy = await startProxy({ host: '127.0.0.1', port });
  const address = `127.0.0.1:${proxy.port}`;
  try {
    const server = await throwAway('kafka', { ...options, proxied: { port, address } });
    const close = async (): Promise<void> => {
      await server.remove();
      await proxy.close();
    };
    return { server, proxied: [address], proxy, close };
  } catch (error) {
    await proxy.close();
    throw error;
  }
}
