export function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** The median with the lowest and the highest: of five rounds, quartiles would hide one in five. */
export function summary(ratios) {
  const rounded = (value) => Math.round(value * 1_000) / 1_000;
  return {
    ratio: rounded(median(ratios)),
    low: rounded(Math.min(...ratios)),
    high: rounded(Math.max(...ratios)),
  };
}
