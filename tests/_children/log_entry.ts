/**
 * Prints one entry as users do: `log_entry.ts`.
 *
 * @module
 */
import { memoryStorage, openWalSync } from "../../mod.ts";

using wal = openWalSync("/log", { storage: memoryStorage() });
wal.appendSync({
  data: "Hello",
  term: 3,
  timestampNs: 1_700_000_000_123_456_789n,
});
console.log(wal.get(1));
console.log("----");
console.log([wal.get(1)]);
console.log("----");
console.log({ entry: wal.get(1) });
