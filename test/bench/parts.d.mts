interface Row {
  name: string;
  group?: string;
}

interface Arguments {
  only: string[] | undefined;
  rounds: number;
  against: string | undefined;
  json: string | undefined;
  profile: string | undefined;
}

export const rows: readonly Row[];
export function readArguments(args: readonly string[], rows: readonly Row[]): Arguments;
export function verdictOf(ratios: readonly number[]): 'no worse' | 'worse';
