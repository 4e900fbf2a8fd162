import type { ConfigProblem } from '../../core/runtime/errors.js';
import type { TransportDefinition } from '../bootstrap/transport-definition.js';

/** Environment variables by the option that they set. */
export type Variables = Readonly<Record<string, string>>;

/** Adds to the problems of options that an environment variable sets the variable's name. */
export function nameVariables(
  problems: readonly ConfigProblem[],
  path: string,
  variables: Variables,
): readonly ConfigProblem[] {
  return problems.map((problem) => {
    const variable = variables[problem.name.slice(path.length + 1)];
    if (variable === undefined) return problem;
    return { ...problem, expected: `${problem.expected} (environment variable ${variable})` };
  });
}

/**
 * A transport whose options come from the environment. `read` is called when the application starts: module
 * decorators are evaluated while files load, before `dotenv` or `ConfigModule` has filled the environment.
 */
export function transportFromEnv(read: () => TransportDefinition, variables: Variables): TransportDefinition {
  return {
    ...read(),
    validate: (path) => nameVariables(read().validate(path), path, variables),
    createDriver(environment) {
      const driver = read().createDriver(environment);
      const validate = driver.validate.bind(driver);
      driver.validate = (spec) => nameVariables(validate(spec), `transports.${environment.name}`, variables);
      return driver;
    },
  };
}
