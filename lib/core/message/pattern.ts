/**
 * What a handler listens to. `*` stands for one word between dots and `#` for any number of them, as on a RabbitMQ topic exchange;
 * they count in patterns written as strings only, never in Nest's normalised form of an object.
 */
export interface Pattern {
  /** The text on the wire, or the source of the RegExp. */
  readonly text: string;
  readonly kind: 'exact' | 'wildcard' | 'regexp';
  readonly regExp?: RegExp;
}

/** A RabbitMQ routing key and `type` hold at most this many bytes. */
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
  // `g` and `y` would make a match depend on the one before.
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

/** Whether a binding such as `order.*` or `order.#` takes a routing key. */
export function matchesWords(binding: string, key: string): boolean {
  const wanted = binding === '' ? [] : binding.split('.');
  const given = key === '' ? [] : key.split('.');
  // reachable[i]: the binding's words so far can stand for the key's first i words.
  let reachable = [true, ...given.map(() => false)];
  for (const word of wanted) {
    const next = given.map(() => false);
    let nextEmpty = false;
    if (word === '#') {
      nextEmpty = reachable[0]!;
      let seen = nextEmpty;
      given.forEach((_, i) => {
        seen ||= reachable[i + 1]!;
        next[i] = seen;
      });
    } else {
      given.forEach((givenWord, i) => {
        next[i] = reachable[i]! && (word === '*' || word === givenWord);
      });
    }
    reachable = [nextEmpty, ...next];
  }
  return reachable[given.length]!;
}
