import { expect, it } from 'vitest';
import { findPatternProblem } from '../../../../lib/nest/validation/validate-pattern.js';

it('reads an object with itself in it as deep as Nest does', () => {
  const cyclic: Record<string, unknown> = { cmd: 'sum' };
  cyclic['self'] = { of: cyclic };
  expect(findPatternProblem(cyclic, 'pattern')).toBeUndefined();
  cyclic['self'] = { missing: undefined, of: cyclic };
  expect(findPatternProblem(cyclic, 'pattern')).toMatchObject({ name: 'pattern.self.missing' });
});
