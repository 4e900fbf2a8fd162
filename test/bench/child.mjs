/**
 * The process of one subject. A subject's module exports `open(options)`, which gives `round()`, the
 * milliseconds of one round, and `close()`, which leaves nothing on the broker. This module imports nothing:
 * the subject may belong to another revision, whose process must not load modules of this one.
 */
let subject;

process.on('message', async (order) => {
  try {
    process.send({ result: await obey(order) });
  } catch (error) {
    process.send({ error: error instanceof Error ? error.message : String(error) });
  }
});

async function obey(order) {
  if (order.open !== undefined) {
    const { open } = await import(order.open.file);
    subject = await open(order.open);
    return undefined;
  }
  if (order.round) return subject.round();
  await subject?.close();
  return undefined;
}
// The parent's disconnect ends it, whatever a library has left open.
process.on('disconnect', () => process.exit());
