const unitMs = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 } as const;

/**
 * Parses an ISO 8601 time, UTC without a zone, or a duration before `nowMs`, e.g. `30m`, `2h`, `7d`.
 * Undefined if the text is neither.
 */
export function parseTime(text: string, nowMs: number): Date | undefined {
  const [, count, unit] = /^(\d+(?:\.\d+)?)([smhdw])$/.exec(text) ?? [];
  const date =
    unit === undefined
      ? parseIso(text)
      : new Date(nowMs - Number(count) * unitMs[unit as keyof typeof unitMs]);
  return date === undefined || Number.isNaN(date.getTime()) ? undefined : date;
}

function parseIso(text: string): Date | undefined {
  const parts = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,3})?)?)(Z|[+-]\d\d:\d\d)?)?$/i.exec(
    text,
  );
  if (parts === null) return undefined;
  const [, day, time = '00:00', zone = 'Z'] = parts;
  // `Date` turns the 30th of February into a day in March.
  const isDay =
    new Date(`${day}T00:00Z`).getTime() && new Date(`${day}T00:00Z`).toISOString().startsWith(day!);
  return isDay ? new Date(`${day}T${time}${zone.toUpperCase()}`) : undefined;
}
