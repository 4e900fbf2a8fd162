import { describe, expect, it } from 'vitest';
import { ConnectionStateCell, type ConnectionState } from '../../../../lib/core/port/connection-state.js';

function listen(cell: ConnectionStateCell): { values: string[]; completed: () => boolean } {
  const values: string[] = [];
  let completed = false;
  cell.changes.subscribe({ next: ({ value }) => values.push(value), complete: () => (completed = true) });
  return { values, completed: () => completed };
}

describe('ConnectionStateCell', () => {
  it('is idle at first', () => {
    expect(new ConnectionStateCell().current).toEqual({ value: 'idle' });
  });

  it('holds the last state with its data', () => {
    const cell = new ConnectionStateCell();
    const backoff: ConnectionState = { value: 'backoff', attempt: 2, delayMs: 500, error: new Error('gone') };
    cell.move({ value: 'connecting' });
    cell.move(backoff);
    expect(cell.current).toBe(backoff);
  });

  it('tells a listener the current state and then every change', () => {
    const cell = new ConnectionStateCell();
    cell.move({ value: 'connecting' });
    const { values, completed } = listen(cell);
    cell.move({ value: 'ready' });
    cell.move({ value: 'blocked', reason: 'disk' });
    expect([values, completed()]).toEqual([['connecting', 'ready', 'blocked'], false]);
  });

  it('stays closed and says so once', () => {
    const cell = new ConnectionStateCell();
    const { values, completed } = listen(cell);
    cell.move({ value: 'closed' });
    cell.move({ value: 'closed' });
    cell.move({ value: 'ready' });
    expect([values, completed()]).toEqual([['idle', 'closed'], true]);
    expect(cell.current).toEqual({ value: 'closed' });
  });

  it('can be changed only by its owner', () => {
    expect(new ConnectionStateCell().changes).not.toHaveProperty('next');
  });
});
