/** Deeper levels are not indented further: the size of the text would grow with the square of the depth. */
const maxIndent = 20;
/** A string, a punctuation mark, or a literal or number; white space is skipped. */
const tokens = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;

/** Indents valid JSON by its tokens: parsing and stringifying would lose digits and duplicate names. */
export function indentJson(json: string): string {
  const parts: string[] = [];
  let depth = 0;
  let previous = '';
  const newLine = (): void => void parts.push(`\n${'  '.repeat(Math.min(depth, maxIndent))}`);
  for (const [token] of json.matchAll(tokens)) {
    const isOpening = previous === '{' || previous === '[';
    if (token === '}' || token === ']') {
      depth--;
      if (!isOpening) newLine();
    } else if (isOpening || previous === ',') newLine();
    parts.push(token === ':' ? ': ' : token);
    if (token === '{' || token === '[') depth++;
    previous = token;
  }
  return parts.join('');
}
