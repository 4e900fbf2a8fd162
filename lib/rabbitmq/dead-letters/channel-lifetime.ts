import type { Channel, ChannelModel } from 'amqplib';
import type { StorkClock } from '../../core/runtime/clock.js';
import { ConnectionLostError, messageOf } from '../../core/runtime/errors.js';
import { withResolvers } from '../../core/runtime/with-timeout.js';
import { brokerRpc } from '../connection/broker-rpc.js';

export interface ChannelLifetimeFields {
  readonly model: ChannelModel;
  readonly channel: Channel;
  /** For error messages. */
  readonly queue: string;
  readonly clock: StorkClock;
  /** Called when the channel is lost, after pending calls were rejected. */
  readonly onLoss: () => void;
}

/** Detects the loss of a channel and its cause. Every call on the channel then rejects with that cause. */
export class ChannelLifetime {
  readonly #fields: ChannelLifetimeFields;
  /** Reject functions of the pending calls. */
  readonly #pendingCalls = new Set<(loss: Error) => void>();
  #loss: Error | undefined;

  constructor(fields: ChannelLifetimeFields) {
    this.#fields = fields;
    const { channel, model, queue } = fields;
    let cause: unknown = 'the connection was lost';
    const noteCause = (error: unknown): void => {
      cause = error;
    };
    // amqplib reports a connection error on the connection, a channel error on the channel, never on both.
    channel.on('error', noteCause);
    model.on('error', noteCause);
    // Runs before amqplib's own listener, which rejects the pending confirms: their errors need the cause.
    channel.prependListener('close', () => {
      model.off('error', noteCause);
      this.lose(lossError(queue, cause));
    });
  }

  /** Why the channel is unusable; undefined while it is open. */
  get loss(): Error | undefined {
    return this.#loss;
  }

  lose(error: Error): void {
    this.#loss ??= error;
    for (const reject of this.#pendingCalls) reject(this.#loss);
    this.#fields.onLoss();
  }

  /** Awaits a call on the channel, within a time limit and until the channel is lost. */
  async rpc<T>(call: () => PromiseLike<T>, limitMs?: number): Promise<T> {
    if (this.#loss !== undefined) throw this.#loss;
    // One promise per call: a shared promise would retain the result of every race until it settles.
    const lost = withResolvers<never>();
    lost.promise.catch(() => {});
    this.#pendingCalls.add(lost.reject);
    try {
      return await brokerRpc(this.#fields.clock, () => Promise.race([call(), lost.promise]), limitMs);
    } finally {
      this.#pendingCalls.delete(lost.reject);
    }
  }
}

/** A message that amqplib cannot decode closes the connection, in every further scan too. */
function lossError(queue: string, cause: unknown): ConnectionLostError {
  const reason = messageOf(cause);
  if (!(cause instanceof RangeError) && !(cause instanceof TypeError))
    return new ConnectionLostError(`${queue}: ${reason}`, { cause });
  const advice =
    'remove it in the management UI (Get messages, ack mode "Automatic ack") or with another client, then start again';
  const message = `${queue}: a dead letter has headers that cannot be decoded (${reason}); ${advice}`;
  return new ConnectionLostError(message, { cause });
}
