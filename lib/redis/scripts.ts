import { createHash } from 'node:crypto';

/** Runs on the server as one step. `KEYS[1]` is the key. */
export interface Script {
  readonly source: string;
  /** What the server knows it by, once it has run it. */
  readonly sha: string;
}

function script(source: string): Script {
  return { source, sha: createHash('sha1').update(source).digest('hex') };
}

// A key is a hash: state ('leased' or 'done'), owner, and of a reply type and body. Its time to live is the lease or what is left of
// being done, so that the server's clock alone decides. The first write of each script is the one that a full server refuses.

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

/** ARGV: owner, time in ms, and of a reply type and body. */
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
