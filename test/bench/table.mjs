const columns = [
  ['row', ({ row }) => row],
  ['against', ({ against }) => against],
  ['ratio', ({ ratio }) => `${ratio.toFixed(2)}x`],
  ['lowest - highest', ({ low, high }) => `${low.toFixed(2)} - ${high.toFixed(2)}`],
  ['rounds', ({ rounds }) => String(rounds)],
  ['ours/s', ({ ours }) => Math.round(ours).toLocaleString('en')],
  ['theirs/s', ({ theirs }) => Math.round(theirs).toLocaleString('en')],
];

/** Ratios are medians over rounds, ours to theirs; above 1 we are faster. */
export function tableLines(results) {
  const cells = [
    columns.map(([title]) => title),
    ...results.map((result) => columns.map(([, show]) => show(result))),
  ];
  const widths = columns.map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  return cells.map((line) =>
    line
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('  ')
      .trimEnd(),
  );
}

export function deltaLine({ row, against, deltaUs }) {
  return `${row} against ${against}: ${deltaUs < 0 ? '' : '+'}${deltaUs.toFixed(1)} µs a message`;
}
