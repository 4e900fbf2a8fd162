var __decorate =
  (this && this.__decorate) ||
  function (decorators, target, key, desc) {
    var c = arguments.length,
      r = c < 3 ? target : desc === null ? (desc = Object.getOwnPropertyDescriptor(target, key)) : desc,
      d;
    if (typeof Reflect === 'object' && typeof Reflect.decorate === 'function')
      r = Reflect.decorate(decorators, target, key, desc);
    else
      for (var i = decorators.length - 1; i >= 0; i--)
        if ((d = decorators[i])) r = (c < 3 ? d(r) : c > 3 ? d(target, key, r) : d(target, key)) || r;
    return (c > 3 && r && Object.defineProperty(target, key, r), r);
  };
var __metadata =
  (this && this.__metadata) ||
  function (k, v) {
    if (typeof Reflect === 'object' && typeof Reflect.metadata === 'function') return Reflect.metadata(k, v);
  };
var __param =
  (this && this.__param) ||
  function (paramIndex, decorator) {
    return function (target, key) {
      decorator(target, key, paramIndex);
    };
  };
var _a;
var TransportRegistry_1;
import { Inject, Injectable, Logger } from '@nestjs/common';
import { ModulesContainer } from '@nestjs/core';
import { Counters } from '../core/counters.js';
import { StorkConfigError } from '../core/errors.js';
import { Transport } from '../core/transport.js';
import { StorkContext } from './context.js';
import { STORK_CLOCK, STORK_DECLARED_TRANSPORTS, STORK_OPTIONS } from './tokens.js';
import { checkModuleOptions } from './validate-options.js';
const defaultDrainTimeoutMs = 30_000;
const defaultStartTimeoutMs = 60_000;
const defaultMaxBodyBytes = 16 * 1024 * 1024;
/** The transports of one application. Made without I/O and without a check: wrong options must not end the process while modules load. */
let TransportRegistry = (TransportRegistry_1 = class TransportRegistry {
  drainTimeoutMs;
  #options;
  #startTimeoutMs;
  #declared;
  #clock;
  #modules;
  #transports = new Map();
  #logger = new Logger('Stork');
  #checked;
  constructor(options, declared, clock, modules) {
    this.#options = options;
    this.#declared = declared;
    this.#clock = clock;
    this.#modules = modules;
    this.drainTimeoutMs = options?.drainTimeoutMs ?? defaultDrainTimeoutMs;
    this.#startTimeoutMs = options?.startTimeoutMs ?? defaultStartTimeoutMs;
  }
  get names() {
    return this.#declared;
  }
  get clock() {
    return this.#clock;
  }
  get(name) {
    return this.all().get(name);
  }
  /** Whether handlers that name no transport are on this one, only named ones, or none. */
  handlersOn(name) {
    return this.#options.transports[name].common.handlers ?? 'all';
  }
  /** What handlers on this transport get by `@Ctx()`. */
  contextOf(name) {
    return this.#options.transports[name].context ?? StorkContext;
  }
  /** Every transport by name. @throws StorkConfigError with everything that is wrong with the options */
  all() {
    this.#check();
    if (this.#transports.size === 0) this.#create();
    return this.#transports;
  }
  /** Those that were made already: what a shutdown has to close. */
  created() {
    return this.#transports.values();
  }
  #check() {
    this.#checked ??= { problems: this.#findProblems() };
    if (this.#checked.problems.length > 0) throw new StorkConfigError(this.#checked.problems);
  }
  #findProblems() {
    const problems = checkModuleOptions(this.#options, this.#declared);
    // Providers of this module exist once for each forRoot() in the application.
    const mine = [...this.#modules.values()].filter((module) =>
      [...module.providers.values()].some(
        ({ metatype, token }) => (metatype ?? token) === TransportRegistry_1,
      ),
    );
    if (mine.length > 1) {
      const importers = importersOf(mine[0].metatype, this.#modules);
      problems.push({
        name: 'StorkModule',
        expected: 'one in an application, with all transports in it',
        given: `${mine.length}, imported by ${importers.join(' and ')}`,
      });
    }
    return problems;
  }
  #create() {
    const shared = new Map();
    for (const [name, definition] of Object.entries(this.#options.transports)) {
      const { common } = definition;
      const counters = new Counters();
      const environment = { name, clock: this.#clock, logger: this.#logger, counters, shared };
      const transport = new Transport({
        name,
        driver: definition.createDriver(environment),
        settings: {
          concurrency: common.concurrency ?? 10,
          maxBodyBytes: common.maxBodyBytes ?? defaultMaxBodyBytes,
          maxPending: common.maxPending ?? 10_000,
          startTimeoutMs: this.#startTimeoutMs,
          onUnhandled: common.onUnhandled,
          codecs: [...(this.#options.codecs ?? []), ...(common.codecs ?? [])],
          defaultContentType: common.defaultContentType ?? 'application/json',
        },
        clock: this.#clock,
        logger: this.#logger,
        counters,
      });
      this.#transports.set(name, transport);
    }
  }
});
TransportRegistry = TransportRegistry_1 = __decorate(
  [
    Injectable(),
    __param(0, Inject(STORK_OPTIONS)),
    __param(1, Inject(STORK_DECLARED_TRANSPORTS)),
    __param(2, Inject(STORK_CLOCK)),
    __metadata('design:paramtypes', [Object, Array, Object, ModulesContainer]),
  ],
  TransportRegistry,
);
export { TransportRegistry };
/** Classes of the modules whose decorator names it: a global module stands in the `imports` of every other one. */
function importersOf(imported, modules) {
  const names = [...modules.values()].flatMap(({ metatype }) => {
    const imports = Reflect.getMetadata('imports', metatype) ?? [];
    const isImported = imports.some((entry) => entry === imported || entry.module === imported);
    return isImported ? [metatype.name] : [];
  });
  return [...new Set(names)];
}
