/**
 * rocksdb-native: RocksDB with the binding's defaults. A write batch is in
 * RocksDB's write-ahead log when it resolves; the binding has no way to sync
 * that log (its options know `bytesPerSync` only), so no append is durable.
 */
import { indexOf, keyOf, load, SURVIVES, versionOf } from "./contender.mjs";

const MANY = 1000;

export const contender = {
  about: "RocksDB, native addon",
  promise: { append: SURVIVES.process, durable: SURVIVES.none },
  load() {
    const RocksDB = load("rocksdb-native");
    const open = async (folder) => {
      const database = new RocksDB(folder);
      await database.ready();
      return await logOf(database);
    };
    return Promise.resolve({ version: versionOf("rocksdb-native"), open });
  },
};

async function logOf(database) {
  const last = await database.peek(
    { gte: keyOf(0), lte: keyOf(0xffffffff) },
    { reverse: true },
  );
  let next = last === null ? 0 : indexOf(last.key) + 1;
  return {
    append: (bytes) => database.put(keyOf(next++), bytes),
    async appendBatch(list) {
      const batch = database.write({ capacity: list.length });
      for (const bytes of list) batch.tryPut(keyOf(next++), bytes);
      await batch.flush();
      batch.destroy();
    },
    get: (index) => database.get(keyOf(index)),
    async scan(visit) {
      const range = { gte: keyOf(0), lte: keyOf(0xffffffff) };
      const entries = database.iterator(range, { capacity: MANY });
      for await (const { value } of entries) visit(value);
    },
    count: () => next,
    close: () => database.close(),
  };
}
