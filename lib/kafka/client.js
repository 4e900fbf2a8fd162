export class KafkaClientError extends Error {
  name = 'KafkaClientError';
  failure;
  constructor(failure, message, options) {
    super(message, options);
    this.failure = failure;
  }
}
