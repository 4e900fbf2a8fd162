const columns = [
  ['row', ({ row }) => row],
  ['against', ({ against }) => against],
  ['ratio', ({ ratio }) => `${ratio.toFixed(2)}x`],
  ['lowest - highest', ({ low, high }) => `${low.toFixed(2)} - ${high.toFixed(2)}`],
  ['rounds', ({ rounds }) => String(rounds)],
  ['ours/s', ({ ours }) => perSecond(ours)],
  ['theirs/s', ({ theirs }) => perSecond(theirs)],
];

/** Three decimals, so that a ratio just below the threshold is not shown as one that reaches it. */
const revisionColumns = [
  ['row', ({ row }) => row],
  ['old/s', ({ theirs }) => perSecond(theirs)],
  ['new/s', ({ ours }) => perSecond(ours)],
  ['new/old', ({ ratio }) => ratio.toFixed(3)],
  ['lowest - highest', ({ low, high }) => `${low.toFixed(3)} - ${high.toFixed(3)}`],
  ['rounds', ({ rounds }) => String(rounds)],
];

/** Ratios are medians over rounds, ours to theirs; above 1 we are faster. */
export function tableLines(results) {
  return layOut(columns, results);
}

/** The same for this working tree ("new") and another revision ("old"). */
export function revisionTableLines(results) {
  return layOut(revisionColumns, results);
}

function layOut(shown, results) {
  const cells = [
    shown.map(([title]) => title),
    ...results.map((result) => shown.map(([, show]) => show(result))),
  ];
  const widths = shown.map((_, i) => Math.max(...cells.map((line) => line[i].length)));
  return cells.map((line) =>
    line
      .map((cell, i) => cell.padEnd(widths[i]))
      .join('  ')
      .trimEnd(),
  );
}

function perSecond(messages) {
  return Math.round(messages).toLocaleString('en');
}

export function deltaLine({ row, against, deltaUs, each }) {
  const [delta, unit] = Math.abs(deltaUs) < 1_000 ? [deltaUs, 'µs'] : [deltaUs / 1_000, 'ms'];
  return `${row} against ${against}: ${delta < 0 ? '' : '+'}${delta.toFixed(1)} ${unit} a ${each}`;
}
