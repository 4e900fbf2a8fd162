import { slowly } from '../slowly.mjs';
import { openConsumer } from './kafka-consume.mjs';

export function open(options) {
  return openConsumer(options, slowly);
}
