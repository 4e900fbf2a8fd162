/** What the shop sells. */
export interface Goods {
  readonly name: string;
  readonly cents: number;
  readonly isInStock: boolean;
}

export const goodsBySku: ReadonlyMap<string, Goods> = new Map([
  ['TEA-EARL', { name: 'Earl Grey', cents: 1250, isInStock: true }],
  ['TEA-SENCHA', { name: 'Sencha', cents: 1480, isInStock: true }],
  ['TEA-MINT', { name: 'mint tea', cents: 790, isInStock: true }],
  ['POT-IRON', { name: 'iron teapot', cents: 4900, isInStock: true }],
  ['CUP-BLUE', { name: 'blue cup', cents: 1150, isInStock: true }],
  ['HONEY-LIME', { name: 'lime honey', cents: 860, isInStock: true }],
  ['JAM-PLUM', { name: 'plum jam', cents: 540, isInStock: true }],
  ['BOOK-BIRDS', { name: 'book of birds', cents: 2800, isInStock: true }],
  ['MAP-COAST', { name: 'map of the coast', cents: 1900, isInStock: true }],
  ['PEN-BRASS', { name: 'brass pen', cents: 3450, isInStock: true }],
  ['INK-GREEN', { name: 'green ink', cents: 975, isInStock: true }],
  ['LAMP-READ', { name: 'reading lamp', cents: 6200, isInStock: true }],
  ['SOCK-WOOL', { name: 'woollen socks', cents: 1320, isInStock: true }],
  ['KITE-RED', { name: 'red kite', cents: 2240, isInStock: true }],
  // Out of stock, so that some orders fail.
  ['GLOBE-MOON', { name: 'globe of the moon', cents: 18900, isInStock: false }],
]);

export function euros(cents: number): string {
  return `${(cents / 100).toFixed(2)} EUR`;
}
