import { Mailbox } from './mailbox.js';
import type { MemoryMessage } from './message.js';
import { randomName } from './random-name.js';

export interface ReplyInbox {
  /** What a request carries as `replyTo`. */
  readonly address: string;
  close(): void;
}

export const inboxPrefix = 'amq.rabbitmq.reply-to.';

/** Places that answers go to directly, without a queue, as RabbitMQ's direct reply-to. */
export class ReplyInboxes {
  readonly #random: () => number;
  readonly #open = new Map<string, Mailbox<MemoryMessage>>();

  constructor(random: () => number) {
    this.#random = random;
  }

  open(onMessage: (message: MemoryMessage) => void): ReplyInbox {
    const address = randomName(inboxPrefix, this.#random, (name) => this.#open.has(name));
    const mailbox = new Mailbox(onMessage);
    this.#open.set(address, mailbox);
    return {
      address,
      close: () => {
        // A later inbox may have been given the same address.
        if (this.#open.get(address) === mailbox) this.#open.delete(address);
        mailbox.withdraw();
      },
    };
  }

  /** False when nobody listens there. */
  deliver(address: string, message: MemoryMessage): boolean {
    const mailbox = this.#open.get(address);
    mailbox?.post(message);
    return mailbox !== undefined;
  }

  closeAll(): void {
    for (const mailbox of this.#open.values()) mailbox.withdraw();
    this.#open.clear();
  }
}
