import { UsageError } from '../usage-error.js';

/**
 * The URL in its normal form. White space in it, e.g. the line break of a password file, is removed or
 * encoded: masks of credentials end at white space.
 *
 * @param origin flag or variable that the URL is from
 * @throws UsageError, which does not show the URL: after an unescaped `/`, `?` or `#` its parts may hold the
 * password
 */
export function readBrokerUrl(url: string, origin: string): string {
  const parsed = /^amqps?:\/\/./.test(url) && URL.canParse(url) ? new URL(url) : undefined;
  if (parsed !== undefined && !/@/.test(parsed.pathname + parsed.search + parsed.hash)) return parsed.href;
  throw new UsageError(
    `RabbitMQ: ${origin} is no URL of the form amqp://<user>:<password>@<host>/<virtual host>; ` +
      'characters such as / ? # @ % in the user, password or virtual host must be percent-encoded',
  );
}
