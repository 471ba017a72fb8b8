/**
 * classic-level: LevelDB with its defaults, as its README advises ("leave
 * this on unless", of compression). `sync: true` is its fsync.
 */
import { indexOf, keyOf, load, SURVIVES, versionOf } from "./contender.mjs";

export const contender = {
  about: "LevelDB, native addon",
  promise: { append: SURVIVES.process, durable: SURVIVES.power },
  load() {
    const { ClassicLevel } = load("classic-level");
    const open = async (folder, options) => {
      const encodings = { keyEncoding: "view", valueEncoding: "view" };
      const database = new ClassicLevel(folder, encodings);
      await database.open();
      return await logOf(database, options);
    };
    return Promise.resolve({ version: versionOf("classic-level"), open });
  },
};

async function logOf(database, { durable }) {
  const [lastKey] = await database.keys({ reverse: true, limit: 1 }).all();
  let next = lastKey === undefined ? 0 : indexOf(lastKey) + 1;
  const options = { sync: durable };
  const append = (bytes) => database.put(keyOf(next++), bytes, options);
  return {
    append,
    appendSoon: append,
    appendBatch: (list) =>
      database.batch(
        list.map((value) => ({ type: "put", key: keyOf(next++), value })),
        options,
      ),
    get: (index) => database.get(keyOf(index)),
    async scan(visit) {
      const values = database.values();
      for (;;) {
        // Many at a time, which its README calls the fast way.
        const list = await values.nextv(1000);
        if (list.length === 0) break;
        for (const value of list) visit(value);
      }
      await values.close();
    },
    count: () => next,
    close: () => database.close(),
  };
}
