/** Deeper documents could overflow the stack of recursive pipes and handlers. */
const maxDepth = 1_000;

const quote = 0x22;
const backslash = 0x5c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/**
 * Why the JSON must not be parsed, or undefined. Most bodies cost one search: a short one cannot be too
 * deep.
 */
export function findUnsafeJson(body: Buffer, text: string): string | undefined {
  if (body.length > maxDepth * 2 && isTooDeep(body)) return `nested deeper than ${maxDepth} levels`;
  return hasPrototypeKey(text) ? 'has a key named __proto__' : undefined;
}

function isTooDeep(body: Buffer): boolean {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < body.length; i++) {
    const byte = body[i];
    if (inString) {
      if (byte === backslash) i++;
      else if (byte === quote) inString = false;
    } else if (byte === quote) {
      inString = true;
    } else if (byte === openBracket || byte === openBrace) {
      if (++depth > maxDepth) return true;
    } else if (byte === closeBracket || byte === closeBrace) {
      depth--;
    }
  }
  return false;
}

/** Each character of a key may be written plainly or as a `\u` escape of four hexadecimal digits. */
const escaped = [...'__proto__'].map((character) => {
  const code = character.charCodeAt(0).toString(16).padStart(4, '0');
  return `(?:${character}|\\\\u${code.replace(/[a-f]/g, (digit) => `[${digit}${digit.toUpperCase()}]`)})`;
});
/** A quote after a backslash does not open a key. */
const prototypeKey = new RegExp(`(?<!\\\\)"${escaped.join('')}"\\s*:`);

function hasPrototypeKey(text: string): boolean {
  if (!text.includes('__proto__') && !text.includes('\\u00')) return false;
  return prototypeKey.test(text);
}
