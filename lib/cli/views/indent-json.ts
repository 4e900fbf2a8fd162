/** Deeper levels are not indented further: the text would grow with the square of their number. */
const deepestIndent = 20;
/** A string, a mark, a bare word or number. White space lies between. */
const tokens = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs;

/** Valid JSON on lines of its own, each token as it was written: what is parsed and written anew loses digits and double names. */
export function indentJson(json: string): string {
  const parts: string[] = [];
  let depth = 0;
  let previous = '';
  const newLine = (): void => void parts.push(`\n${'  '.repeat(Math.min(depth, deepestIndent))}`);
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
