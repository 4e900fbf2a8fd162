import { AsyncLocalStorage } from 'node:async_hooks';

/** What the messages that are sent on the way belong to. */
export interface Conversation {
  /** The same for all of it, over services. */
  readonly correlationId: string | undefined;
  /** Id of the message whose handling sends; undefined where it did not begin with a message. */
  readonly messageId: string | undefined;
}

const storage = new AsyncLocalStorage<Conversation>();
/**
 * Once a store was opened, Node before 24 makes every promise of the process dearer, a third of what a message costs: who only
 * receives need not pay for it.
 */
let isFollowed = false;

/** Called when it is known that something can be sent: from then on what is handled belongs to its conversation. */
export function followConversations(): void {
  isFollowed = true;
}

/** Runs `work` so that, where conversations are followed, what it sends, also after its awaits and in the streams that it subscribes to, belongs to the conversation. */
export function withinConversation<Args extends readonly unknown[], Result>(
  conversation: Conversation,
  work: (...args: Args) => Result,
  ...args: Args
): Result {
  return isFollowed ? storage.run(conversation, work, ...args) : work(...args);
}

export function currentConversation(): Conversation | undefined {
  return storage.getStore();
}
