const deadLetters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** 22 characters, as RabbitMQ appends to names that it gives. `random` gives numbers from 0 up to, but never, 1. */
export function randomName(prefix: string, random: () => number, isTaken: (name: string) => boolean): string {
  let name = prefix;
  for (let i = 0; i < 22; i++)
    name += deadLetters[Math.floor(random() * deadLetters.length)] ?? deadLetters[0]!;
  // A test's constant `random` always gives the same name.
  let unique = name;
  for (let n = 2; isTaken(unique); n++) unique = `${name}-${n}`;
  return unique;
}
