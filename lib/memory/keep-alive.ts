/** The longest delay that Node's timers support, 24.8 days. */
const longMs = 2 ** 31 - 1;

/** Keeps the process alive, as the socket of a real broker would, until the returned function is called. */
export function keepAlive(): () => void {
  const timer = setInterval(() => {}, longMs);
  return () => clearInterval(timer);
}
