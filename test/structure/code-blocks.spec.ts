import { join } from 'node:path';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { filesUnder, root, textOf } from './source-files.js';

// Every TypeScript block of the pages compiles under the project's own options. A block is a module of its own, ```ts class the
// members of a class, ```ts statements the body of a function; the last two may use the names of the prelude.

const prelude = `
import 'reflect-metadata';
import { UseInterceptors } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload, RpcException } from '@nestjs/microservices';
import {
  Consume, CorrelationInterceptor, DeadLetter, DeadLetterInterceptor, DeadLetterService, IdempotencyInterceptor, Idempotent,
  InjectClient, memoryIdempotencyStore,
  RemoteError, Retry, RetryInterceptor, StorkClient, StorkContext, StorkModule, via,
} from 'nestjs-stork';
import type { IdempotencyStore, MessageCodec } from 'nestjs-stork';
import { kafka } from 'nestjs-stork/kafka';
import { memory, MemoryBroker, VirtualClock } from 'nestjs-stork/memory';
import { rabbitmq } from 'nestjs-stork/rabbitmq';
import { redisIdempotencyStore } from 'nestjs-stork/redis';
import { idempotencyStoreSuite } from 'nestjs-stork/testing';

export interface Order { readonly id: string }
export interface Quote { readonly cents: number }
export class OrderDto implements Order { readonly id!: string }
export class InvalidOrderError extends Error {}
export declare class ConfigService { get(name: string): string }
export declare const MyStore: new () => IdempotencyStore;
export interface Schema { encode(value: unknown): Buffer; decode(body: Buffer): unknown }
export declare function schemaOf(pattern: string): Promise<Schema>;
export declare const orders: StorkClient;
export declare function it(name: string, run: () => Promise<void>): void;
`;

/** What pages import and a reader has. */
const modules: Readonly<Record<string, string>> = {
  'app.module.ts': 'export class AppModule {}\nexport class OrdersController {}\n',
  'globals.d.ts':
    'declare function it(name: string, run: () => Promise<void>): void;\n' +
    'declare function expect(value: unknown): { toEqual(expected: unknown): void };\n',
};

interface Block {
  readonly page: string;
  /** Of its first line, from 1. */
  readonly line: number;
  readonly source: string;
}

const pages = [
  'README.md',
  ...['lib', 'sample', 'test', '.github'].flatMap((folder) => filesUnder(folder, '.md')),
];

function blocksOf(page: string): Block[] {
  const lines = textOf(page).split('\n');
  return lines.flatMap((text, i) => {
    const kind = /^```(?:ts|typescript)(?: (\w+))?$/.exec(text);
    if (kind === null) return [];
    const end = lines.indexOf('```', i);
    return { page, line: i + 2, source: sourceOf(kind[1], lines.slice(i + 1, end).join('\n')) };
  });
}

function sourceOf(kind: string | undefined, code: string): string {
  if (kind === undefined) return code;
  // On one line, so that the lines of errors stay those of the block.
  const head = prelude.replaceAll('\n', ' ');
  if (kind === 'class') return `${head} export class Example {\n${code}\n}`;
  if (kind === 'statements') return `${head} export async function example() {\n${code}\n}`;
  throw new Error(`a block is ts, ts class or ts statements, not ts ${kind}`);
}

const blocks = pages.flatMap(blocksOf);
const folder = join(root, 'test/structure/blocks-of-pages');
const fileOf = (i: number): string => join(folder, `block-${i}.ts`);
const errors = new Map<string, string[]>();

/** Compiles all blocks in one program; files exist in memory alone. */
function compile(sources: ReadonlyMap<string, string>): void {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (file) => ts.sys.readFile(file)) as {
    config: object;
  };
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, root);
  const disk = ts.createCompilerHost(options);
  const host: ts.CompilerHost = {
    ...disk,
    fileExists: (file) => sources.has(file) || disk.fileExists(file),
    directoryExists: (directory) => directory === folder || ts.sys.directoryExists(directory),
    readFile: (file) => sources.get(file) ?? disk.readFile(file),
    getSourceFile: (file, language, ...rest) => {
      const source = sources.get(file);
      return source === undefined
        ? disk.getSourceFile(file, language, ...rest)
        : ts.createSourceFile(file, source, language);
    },
  };
  const program = ts.createProgram([...sources.keys()], options, host);
  for (const file of sources.keys()) {
    const source = program.getSourceFile(file);
    const found = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
    errors.set(
      file,
      found.map(({ messageText, start = 0 }) => {
        const { line } = source!.getLineAndCharacterOfPosition(start);
        return `line ${line}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
      }),
    );
  }
}

beforeAll(() => {
  const sources = new Map(blocks.map(({ source }, i) => [fileOf(i), source]));
  for (const [name, source] of Object.entries(modules)) sources.set(join(folder, name), source);
  sources.set(join(folder, 'broken.ts'), `export const text: string = 1;\n`);
  compile(sources);
}, 120_000);

describe('code blocks of the pages compile', () => {
  it.each(blocks.map(({ page, line }, i) => ({ where: `${page}:${line}`, file: fileOf(i) })))(
    '$where',
    ({ file }) => expect(errors.get(file)).toEqual([]),
  );

  it('and one that does not is found', () => {
    expect(errors.get(join(folder, 'broken.ts'))).toHaveLength(1);
  });
});

describe('programs of the pages and samples', () => {
  const count = (source: string, text: RegExp): number => [...source.matchAll(text)].length;
  const programs = [
    ...blocks.map(({ page, line, source }) => ({ where: `${page}:${line}`, source })),
    ...filesUnder('sample', '.ts').map((where) => ({ where, source: textOf(where) })),
  ].filter(({ source }) => /NestFactory\.create(Microservice)?\(/.test(source));

  it.each(programs)('$where enables the shutdown hooks of each application', ({ source }) => {
    expect(count(source, /\.enableShutdownHooks\(/g)).toBe(
      count(source, /NestFactory\.create(Microservice)?\(/g),
    );
  });

  it('are found', () => {
    expect(programs.length).toBeGreaterThanOrEqual(4);
  });
});

describe('links of the pages', () => {
  it.each(pages)('%s names files that exist', (page) => {
    const links = [...textOf(page).matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)].map(
      ([, link]) => link!,
    );
    const missing = links.filter(
      (link) =>
        !ts.sys.fileExists(join(root, page, '..', link)) &&
        !ts.sys.directoryExists(join(root, page, '..', link)),
    );
    expect(missing).toEqual([]);
  });
});

describe('README.md', () => {
  it('has at most 250 lines', () => {
    expect(textOf('README.md').split('\n').length).toBeLessThanOrEqual(250);
  });
});
