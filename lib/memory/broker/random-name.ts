const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** A name in the form of RabbitMQ's server-named queues. `random` returns numbers in the range [0, 1). */
export function randomName(prefix: string, random: () => number, isTaken: (name: string) => boolean): string {
  let name = prefix;
  for (let i = 0; i < 22; i++) name += alphabet[Math.floor(random() * alphabet.length)] ?? alphabet[0]!;
  // A test with a constant `random` gets the same name every time.
  let unique = name;
  for (let n = 2; isTaken(unique); n++) unique = `${name}-${n}`;
  return unique;
}
