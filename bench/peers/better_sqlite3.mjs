/** better-sqlite3: SQLite through a native addon. */
import { join } from "node:path";
import { load, versionOf } from "./contender.mjs";
import { logOf, SQLITE_PROMISE } from "./sqlite.mjs";

export const contender = {
  about: "SQLite, native addon",
  promise: SQLITE_PROMISE,
  blocking: true,
  load() {
    const Database = load("better-sqlite3");
    const open = (folder, options) =>
      logOf(new Database(join(folder, "log.db")), options);
    return Promise.resolve({ version: versionOf("better-sqlite3"), open });
  },
};
