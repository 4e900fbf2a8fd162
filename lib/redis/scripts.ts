import { createHash } from 'node:crypto';

/** A Lua script, which Redis executes atomically. `KEYS[1]` is the key. */
export interface Script {
  readonly source: string;
  /** Id for EVALSHA. */
  readonly sha: string;
}

function script(source: string): Script {
  return { source, sha: createHash('sha1').update(source).digest('hex') };
}

// A key is a hash: state ('leased' or 'done'), owner, and type and body of the reply. Its time to live is
// that of the lease or of the completed key, so that only the server's clock decides. When Redis is out of
// memory it rejects the first write of a script, so that a script never takes effect in part.

/** ARGV: owner, lease in ms. */
export const begin = script(`
local state, owner, type, body = unpack(redis.call('HMGET', KEYS[1], 'state', 'owner', 'type', 'body'))
if state == 'done' then return {'done', type, body} end
if state and owner ~= ARGV[1] then return {'in-progress'} end
redis.call('HSET', KEYS[1], 'state', 'leased', 'owner', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'acquired'}
`);

/** ARGV: owner, lease in ms. */
export const renew = script(`
local state, owner = unpack(redis.call('HMGET', KEYS[1], 'state', 'owner'))
if state ~= 'leased' or owner ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`);

/** ARGV: owner, time to live in ms, and type and body of the reply, if there is one. */
export const complete = script(`
local state, owner = unpack(redis.call('HMGET', KEYS[1], 'state', 'owner'))
if state and owner ~= ARGV[1] then return 0 end
if state == 'done' then return 1 end
redis.call('HSET', KEYS[1], 'state', 'done', 'owner', ARGV[1])
if ARGV[3] then redis.call('HSET', KEYS[1], 'type', ARGV[3], 'body', ARGV[4]) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
`);

/** ARGV: owner. */
export const release = script(`
local state, owner = unpack(redis.call('HMGET', KEYS[1], 'state', 'owner'))
if state ~= 'leased' or owner ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`);
