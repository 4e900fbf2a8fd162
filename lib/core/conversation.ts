import { AsyncLocalStorage } from 'node:async_hooks';

/** What the messages that are sent on the way belong to. */
export interface Conversation {
  /** The same for all of it, over services. */
  readonly correlationId: string | undefined;
  /** Id of the message whose handling sends; undefined where it did not begin with a message. */
  readonly messageId: string | undefined;
}

const storage = new AsyncLocalStorage<Conversation>();

/** Runs `work` so that what it sends, also after its awaits and in the streams that it subscribes to, belongs to the conversation. */
export function withinConversation<Args extends readonly unknown[], Result>(
  conversation: Conversation,
  work: (...args: Args) => Result,
  ...args: Args
): Result {
  return storage.run(conversation, work, ...args);
}

export function currentConversation(): Conversation | undefined {
  return storage.getStore();
}
