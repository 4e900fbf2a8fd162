/**
 * Pattern of a handler. In a pattern that was written as a string, `*` matches one word between dots and
 * `#` any number of words, as in a binding of a topic exchange. In Nest's normalised form of an object
 * pattern, both are ordinary characters.
 */
export interface Pattern {
  /** The pattern as it is sent, or the RegExp as text. */
  readonly text: string;
  readonly kind: 'exact' | 'wildcard' | 'regexp';
  readonly regExp?: RegExp;
}

/** Maximum length of a routing key. */
export const maxPatternBytes = 255;

export function isPatternLength(text: string): boolean {
  const bytes = Buffer.byteLength(text);
  return bytes > 0 && bytes <= maxPatternBytes;
}

export function patternFromString(text: string): Pattern {
  const wildcard = text.split('.').some((word) => word === '*' || word === '#');
  return { text, kind: wildcard ? 'wildcard' : 'exact' };
}

export function patternFromRegExp(regExp: RegExp): Pattern {
  // With `g` or `y`, a RegExp keeps its `lastIndex`, and a match would depend on the previous one.
  return {
    text: String(regExp),
    kind: 'regexp',
    regExp: new RegExp(regExp.source, regExp.flags.replace(/[gy]/g, '')),
  };
}

export function matches(pattern: Pattern, text: string): boolean {
  switch (pattern.kind) {
    case 'exact':
      return pattern.text === text;
    case 'wildcard':
      return matchesWords(pattern.text, text);
    case 'regexp':
      return pattern.regExp!.test(text);
  }
}

/** Whether a binding such as `order.*` or `order.#` matches a routing key. */
export function matchesWords(binding: string, key: string): boolean {
  const bindingWords = binding === '' ? [] : binding.split('.');
  const keyWords = key === '' ? [] : key.split('.');
  // reachable[i]: the words of the binding so far match the first i words of the key.
  let reachable = [true, ...keyWords.map(() => false)];
  for (const word of bindingWords) {
    const next = keyWords.map(() => false);
    let nextEmpty = false;
    if (word === '#') {
      nextEmpty = reachable[0]!;
      let seen = nextEmpty;
      keyWords.forEach((_, i) => {
        seen ||= reachable[i + 1]!;
        next[i] = seen;
      });
    } else {
      keyWords.forEach((keyWord, i) => {
        next[i] = reachable[i]! && (word === '*' || word === keyWord);
      });
    }
    reachable = [nextEmpty, ...next];
  }
  return reachable[keyWords.length]!;
}
