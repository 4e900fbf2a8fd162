import { randomBytes } from 'node:crypto';

/** 16 bytes in the alphabet of URLs. The tools take a leading dash for an option. */
export function newClusterId() {
  return `A${randomBytes(16).toString('base64url').slice(1)}`;
}
