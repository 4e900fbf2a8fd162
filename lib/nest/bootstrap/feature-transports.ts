import type { DynamicModule, ValueProvider } from '@nestjs/common';
import type { ModulesContainer } from '@nestjs/core';
import { STORK_FEATURE } from '../stork.constants.js';

/** The argument of one `StorkModule.forFeature()`, not validated. */
export interface FeatureTransports {
  readonly transports: unknown;
  /** `forFeature()`, with the class names of the modules that import it, as far as they are known. */
  readonly source: string;
}

/** Every `forFeature()` of the application, in the order in which Nest has scanned the modules. */
export function featuresOf(modules: ModulesContainer): FeatureTransports[] {
  return [...modules.values()].flatMap(({ providers }) => {
    const feature = providers.get(STORK_FEATURE);
    if (feature === undefined) return [];
    const transports: unknown = feature.instance;
    const importers = importersOf(modules, (entry) => providesFeature(entry, transports));
    const where = importers.length === 0 ? '' : ` in ${importers.join(' and ')}`;
    return { transports, source: `forFeature()${where}` };
  });
}

/**
 * Class names of the modules that import what `matches` accepts. Read from the decorators' metadata, because
 * Nest adds a global module to the resolved `imports` of every other module.
 */
export function importersOf(modules: ModulesContainer, matches: (entry: unknown) => boolean): string[] {
  const names = [...modules.values()].flatMap(({ metatype }) => {
    const imports = (Reflect.getMetadata('imports', metatype) ?? []) as readonly unknown[];
    return imports.some(matches) ? [metatype.name] : [];
  });
  return [...new Set(names)];
}

export function isFeature(entry: unknown): boolean {
  return featureProviderOf(entry) !== undefined;
}

function providesFeature(entry: unknown, transports: unknown): boolean {
  return featureProviderOf(entry)?.useValue === transports;
}

function featureProviderOf(entry: unknown): ValueProvider<unknown> | undefined {
  // A class may have a static property of this name.
  if (typeof entry !== 'object' || entry === null) return undefined;
  const { providers = [] } = entry as Partial<DynamicModule>;
  return (providers as readonly ValueProvider<unknown>[]).find(({ provide }) => provide === STORK_FEATURE);
}
