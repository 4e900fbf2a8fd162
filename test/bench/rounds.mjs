import { Subject } from './subject.mjs';
import { median, summary } from './statistics.mjs';

/**
 * Runs the contenders in turn, round by round, beginning with another one each round, so that a slow phase of
 * the machine slows all of them. The first round warms up and does not count. The results compare the first
 * contender with each of the others.
 */
export async function compare(row, contenders, { rounds, address }) {
  const times = new Map(contenders.map(({ name }) => [name, []]));
  const subjects = [];
  let failure;
  try {
    for (const contender of contenders) subjects.push(await Subject.open(row, contender, address));
    for (let round = 0; round <= rounds; round++) {
      for (let i = 0; i < subjects.length; i++) {
        const subject = subjects[(i + round) % subjects.length];
        const ms = await subject.round();
        if (round > 0) times.get(subject.name).push(ms);
      }
    }
  } catch (error) {
    failure = error;
  }
  const closings = await Promise.allSettled(subjects.map((subject) => subject.close()));
  failure ??= closings.find(({ status }) => status === 'rejected')?.reason;
  if (failure !== undefined) throw failure;
  const [ours, ...others] = contenders.map(({ name }) => name);
  return others.map((against) => resultOf(row, against, times.get(ours), times.get(against)));
}

function resultOf(row, against, ourMs, theirMs) {
  const perSecond = (ms) => (row.messages / median(ms)) * 1_000;
  return {
    row: row.name,
    against,
    // Of throughputs, so above 1 the library is faster.
    ...summary(ourMs.map((ms, i) => theirMs[i] / ms)),
    rounds: ourMs.length,
    ours: perSecond(ourMs),
    theirs: perSecond(theirMs),
    showsDelta: row.showsDelta === true,
    each: row.each ?? 'message',
    deltaUs: median(ourMs.map((ms, i) => ((ms - theirMs[i]) / row.messages) * 1_000)),
  };
}
