import { Server } from '@nestjs/microservices';
import { StorkConfigError } from '../../core/runtime/errors.js';

/**
 * Refuses a Node that `engines` of the package excludes: it would fail later, with an error that names a
 * missing function, or load two copies of this package.
 */
export function requireNode(version = process.versions.node): void {
  const [major, minor] = version.split('.').map(Number) as [number, number];
  const isSupported = major > 22 || (major === 22 && minor >= 12) || (major === 20 && minor >= 19);
  if (isSupported) return;
  throw new StorkConfigError(`nestjs-stork needs Node.js ^20.19 or >=22.12, given ${version}`);
}

/** Nest 10 ignores `storkMicroservice()`: the application would start and consume nothing. */
export function requireNest(server: typeof Server = Server): void {
  if (!('status' in server.prototype)) throw nestTooOld();
}

export function nestTooOld(): StorkConfigError {
  return new StorkConfigError(
    'nestjs-stork needs NestJS 11.1.2 or newer; `npm ls @nestjs/microservices` shows yours',
  );
}
