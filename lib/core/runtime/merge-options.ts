/** Merges field by field: a later layer overrides an earlier one, except where its field is `undefined`. */
export function mergeLayers(...layers: readonly (object | undefined)[]): Record<string, unknown> {
  const merged: Record<string, unknown> = {};
  for (const layer of layers) {
    for (const [name, value] of Object.entries(layer ?? {})) if (value !== undefined) merged[name] = value;
  }
  return merged;
}
