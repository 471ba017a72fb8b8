/**
 * Hypercore: a signed append-only log over RocksDB. Each append signs a
 * Merkle root, so that strangers can check it: work that no other contender
 * does. Many blocks go in one `append([…])`, as its README shows. It never
 * syncs: what `append` resolved for is in RocksDB's write-ahead log.
 */
import { load, SURVIVES, versionOf } from "./contender.mjs";

export const contender = {
  about: "signed log over RocksDB",
  promise: { append: SURVIVES.process, durable: SURVIVES.none },
  load() {
    const Hypercore = load("hypercore");
    const open = async (folder) => {
      const core = new Hypercore(folder);
      await core.ready();
      return logOf(core);
    };
    return Promise.resolve({ version: versionOf("hypercore"), open });
  },
};

function logOf(core) {
  return {
    append: (bytes) => core.append(bytes),
    appendBatch: (list) => core.append(list),
    get: (index) => core.get(index),
    async scan(visit) {
      for await (const block of core.createReadStream()) visit(block);
    },
    count: () => core.length,
    close: () => core.close(),
  };
}
