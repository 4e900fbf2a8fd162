import type { Type } from '@nestjs/common';
import type { ConsumeOptions } from '../decorators/consume.decorator.js';
import type { PolicyLayers } from '../decorators/policy-metadata.js';

/** A method with `@EventPattern` or `@MessagePattern` and the metadata of its decorators. */
export interface DecoratedMethod {
  /**
   * `<Class>.<method>` or `@Consume({ id })`, after the module's `handlerIdPrefix()`. Ids that several
   * modules share begin with the module's class name.
   */
  readonly id: string;
  /** `<Class>.<method>`, for logs and error texts; with the module's class name where the id has it. */
  readonly name: string;
  readonly controller: Type;
  readonly module: ControllerModule;
  /** The names in `via()` or `@Via()`; undefined if neither is used. */
  readonly transports: readonly string[] | undefined;
  /** The options of `@Consume()`, not validated. */
  readonly consume: ConsumeOptions | undefined;
  /** Policies of the class, then of the method. */
  readonly policies: PolicyLayers;
  /**
   * True if the pattern decorator names a transport of Nest or of another library, e.g.
   * `Transport.TCP`.
   */
  readonly isForeign: boolean;
}

/** A module with controllers. */
export interface ControllerModule {
  readonly name: string;
  /** What `handlerIdPrefix()` got, not validated; undefined only without it. */
  readonly idPrefix: unknown;
}
