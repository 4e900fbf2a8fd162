import { readFileSync } from 'node:fs';
import * as common from '@nestjs/common';
import * as core from '@nestjs/core';
import * as microservices from '@nestjs/microservices';
import { describe, expect, it } from 'vitest';
import { entryPoints, reportApi } from './api/report.mjs';

describe.each(entryPoints)('the public API of the entry point %s', (entryPoint) => {
  it('is as its report says; `npm run api` writes it anew', () => {
    expect(reportApi(entryPoint, { write: false })).toBe(true);
  });

  const report = readFileSync(new URL(`api/${entryPoint}.api.md`, import.meta.url), 'utf8');

  it('has no `any`', () => {
    expect(report.match(/.*\bany\b.*/g) ?? []).toEqual([]);
  });

  it('has no name of Nest or of JavaScript', () => {
    const names = [
      ...report.matchAll(/^export (?:abstract )?(?:class|const|function|interface|type) (\w+)/gm),
    ];
    expect(names.length).toBeGreaterThan(0);
    const taken = new Set([common, core, microservices, globalThis].flatMap(Object.getOwnPropertyNames));
    const colliding = names.map(([, name]) => name!).filter((name) => taken.has(name));
    // The context of Kafka messages in both; its methods have the same names.
    expect(colliding.filter((name) => name !== 'KafkaContext')).toEqual([]);
  });
});
