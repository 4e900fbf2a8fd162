import { Mailbox } from './mailbox.js';
import type { MemoryMessage } from './message.js';
import { randomName } from './random-name.js';

export interface ReplyInbox {
  /** The `replyTo` of requests whose replies go to this inbox. */
  readonly address: string;
  close(): void;
}

export const inboxPrefix = 'amq.rabbitmq.reply-to.';

/** Inboxes that replies are delivered to without a queue, as RabbitMQ's direct reply-to does. */
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
        // With a constant `random` a later inbox can have the same address.
        if (this.#open.get(address) === mailbox) this.#open.delete(address);
        mailbox.withdraw();
      },
    };
  }

  /** False if no inbox is open at the address. */
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
