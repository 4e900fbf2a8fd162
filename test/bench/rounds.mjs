import { Subject } from './subject.mjs';
import { median, summary } from './statistics.mjs';

const ours = 'stork';

/**
 * Runs ours and the others in turn, round by round, beginning with another one each round, so that whatever slows the machine down for a
 * while slows all of them. The first round warms up and does not count.
 */
export async function compare(row, { rounds, address, profile }) {
  const names = [ours, ...row.against];
  const times = new Map(names.map((name) => [name, []]));
  const subjects = [];
  let failure;
  try {
    for (const name of names)
      subjects.push(await Subject.open(row, name, { address, profile: name === ours && profile }));
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
  return row.against.map((against) => resultOf(row, against, times.get(ours), times.get(against)));
}

function resultOf(row, against, ourMs, theirMs) {
  const perSecond = (ms) => (row.messages / median(ms)) * 1_000;
  return {
    row: row.name,
    against,
    // Of throughputs, so above 1 we are faster.
    ...summary(ourMs.map((ms, i) => theirMs[i] / ms)),
    rounds: ourMs.length,
    ours: perSecond(ourMs),
    theirs: perSecond(theirMs),
    showsDelta: row.showsDelta === true,
    deltaUs: median(ourMs.map((ms, i) => ((ms - theirMs[i]) / row.messages) * 1_000)),
  };
}
