/** Characters that control a terminal: control, format and separator characters, and lone surrogates. */
const unsafe = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;
const known: Readonly<Record<string, string>> = {
  '\n': String.raw`\n`,
  '\r': String.raw`\r`,
  '\t': String.raw`\t`,
};

/** Escapes untrusted text to one line without terminal control characters. */
export function safeLine(text: string): string {
  return text.replaceAll(unsafe, (character) => known[character] ?? escaped(character));
}

/** Escapes untrusted text of several lines; `indent` keeps them apart from the lines of this program. */
export function safeLines(text: string, indent: string): string {
  return text
    .split(/\r?\n/)
    .map((line) => `${indent}${safeLine(line.replaceAll('\t', '  '))}`)
    .join('\n');
}

/** Cuts text to `width` characters and ends it with `…` if it was longer. */
export function cut(text: string, width: number): string {
  if (text.length <= width) return text;
  const characters = [...text];
  if (characters.length <= width) return text;
  return `${characters.slice(0, Math.max(0, width - 1)).join('')}…`;
}

/** Escapes the characters in JSON that control a terminal; the JSON keeps its value. */
export function safeJson(json: string): string {
  return json.replaceAll(/[\u007f-\u009f\u2028\u2029\p{Cf}]/gu, (character) =>
    Array.from({ length: character.length }, (_, i) => jsonEscape(character.charCodeAt(i))).join(''),
  );
}

function escaped(character: string): string {
  const code = character.codePointAt(0)!;
  const hex = code.toString(16);
  if (code <= 0xff) return String.raw`\x${hex.padStart(2, '0')}`;
  return code <= 0xffff ? String.raw`\u${hex.padStart(4, '0')}` : String.raw`\u{${hex}}`;
}

function jsonEscape(unit: number): string {
  return String.raw`\u${unit.toString(16).padStart(4, '0')}`;
}
