import { assert, json as anyJson, property, string } from 'fast-check';
import { expect, it } from 'vitest';
import { indentJson } from '../../../../lib/cli/views/indent-json.js';
import { cut, safeJson, safeLine, safeLines } from '../../../../lib/cli/views/safe-text.js';

it('escapes characters that would move the cursor, colour, hide or reverse text', () => {
  expect(safeLine('a\u001b[2Jb\u009b31mc\u0000\u007f\r\n\t')).toBe(
    String.raw`a\x1b[2Jb\x9b31mc\x00\x7f\r\n\t`,
  );
  expect(safeLine('\u202eevil\u2066\u200b\u2028\ufeff\ud800')).toBe(
    String.raw`\u202eevil\u2066\u200b\u2028\ufeff\ud800`,
  );
  expect(safeLine('\u{e0041}')).toBe(String.raw`\u{e0041}`);
  expect(safeLine('Grüße, 東京 👋')).toBe('Grüße, 東京 👋');
});

it('indents every line of foreign text', () => {
  expect(safeLines('a\r\nb\n\tc\rd', '  ')).toBe('  a\n  b\n    c\\rd');
});

it('cuts between characters', () => {
  expect(cut('abcdef', 6)).toBe('abcdef');
  expect(cut('abcdef', 4)).toBe('abc…');
  expect(cut('👋👋👋👋', 4)).toBe('👋👋👋👋');
  expect(cut('👋👋👋👋', 3)).toBe('👋👋…');
});

it('whatever the text, leaves no control sequence', () => {
  assert(
    property(string({ unit: 'binary' }), (text) => {
      expect(safeLine(text)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
      const json = safeJson(JSON.stringify({ text }));
      expect(json).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u);
      expect(JSON.parse(json)).toEqual({ text });
    }),
  );
});

it('whatever the JSON, keeps its meaning when indented, with each number as it was written', () => {
  assert(
    property(anyJson(), (json) => {
      expect(JSON.parse(indentJson(json))).toEqual(JSON.parse(json));
    }),
  );
  expect(indentJson('{"a":[1.0,{}, []],"b":"x\\"{,}","a":12345678901234567890}')).toBe(
    '{\n  "a": [\n    1.0,\n    {},\n    []\n  ],\n  "b": "x\\"{,}",\n  "a": 12345678901234567890\n}',
  );
  const deep = '['.repeat(5_000) + ']'.repeat(5_000);
  expect(indentJson(deep).length).toBeLessThan(500_000);
});
