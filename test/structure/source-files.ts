import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const root = fileURLToPath(new URL('../../', import.meta.url));

/** Paths, from the root, of the project's own files under `folder` that end in `ending`. */
export function filesUnder(folder: string, ending: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(ending))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((file) => !file.includes('node_modules'))
    .toSorted();
}

export function textOf(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}

/** A piece of a TypeScript file: an identifier, a comment, or the text of a string. */
export interface Piece {
  readonly kind: 'identifier' | 'comment' | 'string';
  readonly text: string;
  /** From 1. */
  readonly line: number;
}

/** Every identifier, comment and string of a TypeScript file. */
export function piecesOf(file: string): readonly Piece[] {
  const source = ts.createSourceFile(file, textOf(file), ts.ScriptTarget.Latest, true);
  const pieces: Piece[] = [];
  const comments = new Set<number>();
  const add = (kind: Piece['kind'], text: string, position: number): void => {
    const line = source.getLineAndCharacterOfPosition(position).line + 1;
    pieces.push({ kind, text, line });
  };
  const addComments = (ranges: readonly ts.CommentRange[] | undefined): void => {
    for (const { pos, end } of ranges ?? []) {
      if (comments.has(pos)) continue;
      comments.add(pos);
      add('comment', source.text.slice(pos, end), pos);
    }
  };
  const visit = (node: ts.Node): void => {
    addComments(ts.getLeadingCommentRanges(source.text, node.getFullStart()));
    addComments(ts.getTrailingCommentRanges(source.text, node.end));
    if (ts.isIdentifier(node) || ts.isPrivateIdentifier(node)) add('identifier', node.text, node.getStart());
    if (ts.isStringLiteralLike(node) && !isModuleName(node)) add('string', node.text, node.getStart());
    if (ts.isTemplateHead(node) || ts.isTemplateMiddle(node) || ts.isTemplateTail(node)) {
      add('string', node.text, node.getStart());
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return pieces;
}

function isModuleName(node: ts.Node): boolean {
  return ts.isImportDeclaration(node.parent) || ts.isExportDeclaration(node.parent);
}

/** Files of the project that a file imports or exports from, types included, as paths from the root. */
export function importsOf(file: string): readonly string[] {
  const source = ts.createSourceFile(file, textOf(file), ts.ScriptTarget.Latest, true);
  const names: string[] = [];
  const visit = (node: ts.Node): void => {
    if (
      (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) &&
      node.moduleSpecifier !== undefined
    ) {
      names.push((node.moduleSpecifier as ts.StringLiteral).text);
    }
    if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [name] = node.arguments;
      if (name !== undefined && ts.isStringLiteralLike(name)) names.push(name.text);
    }
    if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      names.push((node.argument.literal as ts.StringLiteral).text);
    }
    ts.forEachChild(node, visit);
  };
  visit(source);
  return names
    .filter((name) => name.startsWith('.'))
    .map((name) => relative(root, join(root, file, '..', name)).replace(/\.js$/, '.ts'));
}
