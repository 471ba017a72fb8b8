/** node:sqlite: the SQLite that is built into Node, Deno and Bun. */
import { join } from "node:path";
import { logOf, SQLITE_PROMISE } from "./sqlite.mjs";

export const contender = {
  about: "SQLite, built in",
  promise: SQLITE_PROMISE,
  blocking: true,
  async load() {
    const name = "node:sqlite";
    const { DatabaseSync } = await import(name);
    const memory = new DatabaseSync(":memory:");
    const version = memory.prepare("SELECT sqlite_version() AS v").get().v;
    memory.close();
    const open = (folder, options) =>
      logOf(new DatabaseSync(join(folder, "log.db")), options);
    return { version, open };
  },
};
