/**
 * Opens a log, appends and closes: `open_once.ts KIND FOLDER`.
 *
 * @module
 */
import process from "node:process";
import {
  filesStorage,
  mappedStorage,
  openWal,
  StorageError,
  WalError,
} from "../../mod.ts";

const [kind, path] = process.argv.slice(2) as [string, string];
try {
  const storage = kind === "mapped" ? mappedStorage() : filesStorage();
  await using wal = await openWal(path, { storage, segmentBytes: 65536 });
  console.log(`open ${wal.length}`);
  await wal.append("x");
} catch (error) {
  if (!(error instanceof WalError)) throw error;
  const systemCode = error instanceof StorageError ? error.systemCode : "";
  console.log(`${error.code} ${systemCode} ${error.message}`);
}
