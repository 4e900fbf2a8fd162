/** Seven digits always, so that every message has the same length. */
const firstNumber = 1_000_000;
const bytes = 250;
const pattern = 'order.created';
const template = {
  n: firstNumber,
  customer: 'c-20417',
  currency: 'EUR',
  lines: [{ sku: 'POT-IRON', quantity: 2 }],
};
const padding = 'x'.repeat(bytes - JSON.stringify({ ...template, note: '' }).length);

export { firstNumber, pattern };

/** The payload of the i-th message of a round: 250 bytes as JSON. */
export function order(i) {
  return { ...template, n: firstNumber + i, note: padding };
}
