/**
 * SQLite as a log, whichever binding opens it: a table whose rowid is the
 * entry's number, prepared statements, one transaction a batch.
 *
 * The write-ahead journal is what SQLite (sqlite.org/wal.html, "WAL provides
 * more concurrency"; sqlite.org/pragma.html#pragma_synchronous) and
 * better-sqlite3 (docs/performance.md: `journal_mode = WAL`) recommend.
 * `synchronous = FULL` syncs each commit; with `NORMAL`, which they recommend
 * for most programs, a commit may roll back after a power cut.
 */
import { SURVIVES } from "./contender.mjs";

export const SQLITE_PROMISE = {
  append: SURVIVES.process,
  durable: SURVIVES.power,
};

/**
 * Makes a log of an open database. All three bindings have `exec`, and
 * `prepare` with `run`, `get` and an iterator.
 */
export function logOf(database, { durable }) {
  database.exec("PRAGMA journal_mode = WAL");
  database.exec(`PRAGMA synchronous = ${durable ? "FULL" : "NORMAL"}`);
  database.exec(
    "CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, data BLOB)",
  );
  const insert = database.prepare("INSERT INTO log (data) VALUES (?)");
  const select = database.prepare("SELECT data FROM log WHERE id = ?");
  const all = database.prepare("SELECT data FROM log ORDER BY id");
  const last = database.prepare("SELECT max(id) AS id FROM log");
  const begin = database.prepare("BEGIN IMMEDIATE");
  const commit = database.prepare("COMMIT");
  return {
    append: (bytes) => insert.run(bytes),
    appendBatch(list) {
      begin.run();
      for (const bytes of list) insert.run(bytes);
      commit.run();
    },
    get: (index) => select.get(index + 1).data,
    scan(visit) {
      for (const row of all.iterate()) visit(row.data);
    },
    count: () => Number(last.get().id ?? 0),
    close: () => database.close(),
  };
}
