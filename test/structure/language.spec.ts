import { describe, expect, it } from 'vitest';
import { filesUnder, piecesOf, textOf, type Piece } from './source-files.js';

// The field's terms are used everywhere; these are names and phrases that stood in their place once.

/** Parts of identifiers, by what to write instead. */
const identifiers: readonly [found: RegExp, instead: string][] = [
  [/(?<!dead)letters?(?![a-z])/i, 'deadLetter'],
  [/bur(y|ied|ial)/i, 'deadLetter, dead-lettering'],
  [/^#?naps?$|Naps?(?![a-z])/, 'retryTimers'],
  [/forgo/i, 'ackEarly'],
  [/intake/i, 'dispatcher'],
  [/^#?(halt|halted|proceed)$/, 'quiesce, resume'],
  [/^#?lanes?$|Lanes?(?![a-z])|^laneOf$/, 'orderingKey, keyQueue'],
  [/(?<!high|High)watermark/i, 'offsetTracker'],
  [/^#?epochs?$|Epoch(?!Ms)(?![a-z])/, 'session, assignment'],
  [/verdict/i, 'action'],
  [/tally/i, 'stats'],
  [/companion/i, 'retryTopic, retryQueue, deadLetterTopic, deadLetterQueue'],
  [/keepCopies|ackAfter/, 'republishThenAck'],
  [/givenBack|giveBack|wantsBack/, 'requeued, requeueAfterDelay'],
  [/tellCaller|noteUnread/, 'sendErrorReply, logUndeliverable'],
  [/^requester$|^Requester/, 'requestClient'],
  [/conversation/i, 'correlation'],
  [/HeaderFacts|hostileJson/i, 'DeliveryMetadata, jsonGuard'],
  [/wishes|^refuse[A-Z]/, 'settings, validate…'],
  [/suspects|quarantine|culprit/i, 'poisonReply, retrySerially'],
  [/unlessAborted|answerWithin|endsWithin/, 'withTimeout'],
  [/patience/i, 'timeoutMs, limitMs'],
  [/^(isMeant|takenUpAt|dueLaterAt|holdUp|hasEnough|beginAnew|passOn|mostPassedOn)$/, 'see lib/README.md'],
  [/nobody|whoever|somebody/i, 'a noun of the domain'],
];

/** Phrases of comments, log lines, error texts and pages, by what to write instead. */
const phrases: readonly [found: RegExp, instead: string][] = [
  [/(?<!\bdead[ -\u2011])\bletters?\b(?!, digits|s and digits| case)/i, 'dead letter'],
  [/\bbur(y|ied|ial|ies)\b/i, 'dead-letter'],
  [/\bnaps?\b/i, 'wait, back-off'],
  [/\bforg(o|oes|one|oing)\b/i, 'acknowledged early'],
  [/\b(whoever|nobody('s)?|somebody('s)?)\b/i, 'a noun of the domain: caller, handler, consumer, broker'],
  [/\blanes?\b/i, 'messages of one key'],
  [/\bcompanions?\b/i, 'retry or dead letter queue or topic'],
  [/\bverdicts?\b/i, 'action'],
  [/\bconversations?\b/i, 'correlation'],
  [/\bgiv(e|es|en|ing) back\b/i, 'requeue'],
  [/\bgiv(e|es|en|ing) up\b/i, 'cancel, time out, stop'],
  [/\bin place\b(?! of)/i, 'in process'],
  [/\ba look\b|\blooks at (it|them|letters)\b/i, 'browse, inspect'],
  [/\bpatience\b/i, 'deadline, time limit'],
  [/\bsettled? (second|first) gets\b|\bthe one before\b/i, 'name the thing'],
  [/\b(copy|copies) (is|are) kept\b/i, 'republished'],
  [/\bworks again\b/i, 'recovered'],
  [/\bepochs?\b(?<!(since|before|from) the (unix )?epoch)(?<!producer epoch)/i, 'session, assignment'],
  [/\btaken up\b/i, 'eligible'],
];

const sources = [...filesUnder('lib', '.ts'), ...filesUnder('sample', '.ts')];
const pages = ['README.md', ...filesUnder('lib', '.md'), ...filesUnder('sample', '.md'), 'test/README.md'];

function offences({ kind, text, line }: Piece, file: string): string[] {
  const list = kind === 'identifier' ? identifiers : phrases;
  // Names on the wire stay as they are.
  if (kind === 'string' && /^[\w.-]+$/.test(text)) return [];
  const inOneLine = text.replaceAll(/\s*\n\s*(?:\*|\/\/)?\s*/g, ' ');
  return list
    .filter(([found]) => found.test(inOneLine))
    .map(([found, instead]) => `${file}:${line} ${found.exec(inOneLine)![0]} → ${instead}`);
}

describe('the language of the field', () => {
  it.each(sources)('%s', (file) => {
    expect(piecesOf(file).flatMap((piece) => offences(piece, file))).toEqual([]);
  });

  it.each(pages)('%s', (file) => {
    const lines = textOf(file).split('\n');
    // The table of old names is where they may stand.
    const table = lines.findIndex((line) => line.startsWith('## Old names'));
    const read = table < 0 ? lines : lines.slice(0, table);
    const found = read.flatMap((text, i) => offences({ kind: 'comment', text, line: i + 1 }, file));
    expect(found).toEqual([]);
  });

  it('finds an old name, in whatever form', () => {
    const found = (kind: Piece['kind'], text: string): number =>
      offences({ kind, text, line: 1 }, 'x').length;
    expect(
      ['readLetter', 'letter', '#naps', 'KeyedLanes', 'buryRun'].map((name) => found('identifier', name)),
    ).toEqual([1, 1, 1, 1, 1]);
    expect(
      ['deadLetter', 'DeadLetters', 'highWatermark', 'snapshot', 'epochMs'].map((name) =>
        found('identifier', name),
      ),
    ).toEqual([0, 0, 0, 0, 0]);
    expect(found('comment', '// The letter lies there until somebody looks.')).toBe(2);
    expect(
      found('comment', '// A dead letter, in milliseconds since the Unix epoch: letters, digits and dots.'),
    ).toBe(0);
  });
});

describe('comments', () => {
  it.each(sources)('%s stays within 110 columns', (file) => {
    const lines = textOf(file).split('\n');
    const commented = piecesOf(file)
      .filter(({ kind }) => kind === 'comment')
      .flatMap(({ text, line }) => text.split('\n').map((_, i) => line + i));
    const long = commented.filter((line) => lines[line - 1]!.length > 110);
    expect(long.map((line) => `${file}:${line}`)).toEqual([]);
  });
});
