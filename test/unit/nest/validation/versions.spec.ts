import { Server } from '@nestjs/microservices';
import { expect, it } from 'vitest';
import { requireNest, requireNode } from '../../../../lib/nest/validation/versions.js';

it.each(['20.19.0', '20.20.2', '22.12.0', '22.21.0', '23.0.0', '24.1.0', '26.0.0-nightly'])(
  'accepts Node.js %s',
  (version) => expect(() => requireNode(version)).not.toThrow(),
);

it.each(['18.20.8', '20.18.3', '21.7.3', '22.11.0'])('refuses Node.js %s, by its number', (version) => {
  expect(() => requireNode(version)).toThrow(
    `nestjs-stork needs Node.js ^20.19 or >=22.12, given ${version}`,
  );
});

it('accepts the installed NestJS and refuses one whose servers have no status', () => {
  expect(() => requireNest()).not.toThrow();
  expect(() => requireNest(class {} as unknown as typeof Server)).toThrow(
    'nestjs-stork needs NestJS 11.1.2 or newer',
  );
});
