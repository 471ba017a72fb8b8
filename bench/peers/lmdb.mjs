/**
 * lmdb-js. Its README recommends asynchronous writes, which it gathers into
 * one transaction per turn of the event loop ("put"), numbers of 32 bits as
 * `keyEncoding: "uint32"`, and the default `overlappingSync`: a put resolves
 * when committed, `flushed` when it is on the disk. `noSync` is discouraged
 * there for data that matters, so the disk is written in both modes.
 */
import { load, SURVIVES, versionOf } from "./contender.mjs";

export const contender = {
  about: "B+tree, mapped, native addon",
  promise: { append: SURVIVES.process, durable: SURVIVES.power },
  load() {
    const { open: openDatabase } = load("lmdb");
    const settings = { encoding: "binary", keyEncoding: "uint32" };
    // A folder whose name has a dot would be taken for a file's name.
    const open = (path, options) =>
      logOf(openDatabase({ ...settings, path, noSubdir: false }), options);
    return Promise.resolve({ version: versionOf("lmdb"), open });
  },
};

function logOf(database, { durable }) {
  let next = [...database.getKeys({ reverse: true, limit: 1 })][0] ?? 0;
  const append = durable
    ? async (bytes) => {
      await database.put(++next, bytes);
      await database.flushed;
    }
    : (bytes) => database.put(++next, bytes);
  return {
    append,
    appendSoon: append,
    async appendBatch(list) {
      await database.batch(() => {
        for (const bytes of list) database.put(++next, bytes);
      });
      if (durable) await database.flushed;
    },
    get: (index) => database.get(index + 1),
    scan(visit) {
      for (const { value } of database.getRange()) visit(value);
    },
    count: () => next,
    close: () => database.close(),
  };
}
