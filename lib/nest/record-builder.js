/** Data together with what is to be said about its message. Made by `StorkRecordBuilder`. @publicApi */
export class StorkRecord {
  data;
  options;
  constructor(data, options) {
    this.data = data;
    this.options = options;
  }
}
/**
 * Builds the `data` argument of Nest's `send()` and `emit()` where a message needs options.
 *
 * @example
 * ```ts
 * client.emit('order.created', new StorkRecordBuilder(order).setKey(order.id).build());
 * ```
 *
 * @publicApi
 */
export class StorkRecordBuilder {
  #data;
  #options = {};
  constructor(data) {
    this.#data = data;
  }
  setData(data) {
    this.#data = data;
    return this;
  }
  /** Several at once; each replaces what was set before. */
  setOptions(options) {
    this.#options = { ...this.#options, ...options };
    return this;
  }
  setHeaders(headers) {
    return this.setOptions({ headers });
  }
  setKey(key) {
    return this.setOptions({ key });
  }
  setMessageId(messageId) {
    return this.setOptions({ messageId });
  }
  setCorrelationId(correlationId) {
    return this.setOptions({ correlationId });
  }
  setTimeoutMs(timeoutMs) {
    return this.setOptions({ timeoutMs });
  }
  setExpiresInMs(expiresInMs) {
    return this.setOptions({ expiresInMs });
  }
  setDelayMs(delayMs) {
    return this.setOptions({ delayMs });
  }
  setPersistent(persistent) {
    return this.setOptions({ persistent });
  }
  setPriority(priority) {
    return this.setOptions({ priority });
  }
  setPartition(partition) {
    return this.setOptions({ partition });
  }
  setContentType(contentType) {
    return this.setOptions({ contentType });
  }
  setTimestamp(timestamp) {
    return this.setOptions({ timestamp });
  }
  setAppId(appId) {
    return this.setOptions({ appId });
  }
  setSignal(signal) {
    return this.setOptions({ signal });
  }
  setTo(to) {
    return this.setOptions({ to });
  }
  build() {
    return new StorkRecord(this.#data, this.#options);
  }
}
