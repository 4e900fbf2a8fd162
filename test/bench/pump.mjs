/** Sends `messages` messages, always `inFlight` of them on their way. Gives the milliseconds. */
export async function pump(messages, inFlight, send) {
  globalThis.gc();
  const beganAt = performance.now();
  let next = 0;
  const one = async () => {
    while (next < messages) await send(next++);
  };
  await Promise.all(Array.from({ length: inFlight }, one));
  return performance.now() - beganAt;
}
