/**
 * A writer in a worker thread; does what its messages say and answers.
 *
 * @module
 */
import { parentPort } from "node:worker_threads";
import {
  filesStorage,
  mappedStorage,
  openWalSync,
  type Wal,
  WalLockedError,
} from "../../mod.ts";

let wal: Wal | undefined;

function answer({ command, kind, path }: Record<string, string>): string {
  const storage = kind === "mapped" ? mappedStorage() : filesStorage();
  switch (command) {
    case "open":
      wal = openWalSync(path!, { storage, segmentBytes: 65536 });
      return `open ${wal.length}`;
    case "append":
      return `appended ${wal!.appendSync("from a worker")}`;
    case "close":
      wal!.closeSync();
      return "closed";
    default:
      throw new RangeError(`Cannot do ${command}`);
  }
}

parentPort!.on("message", (message) => {
  let said: string;
  try {
    said = answer(message);
  } catch (error) {
    said = error instanceof WalLockedError
      ? `LOCKED ${error.pid}`
      : String(error);
  }
  parentPort!.postMessage(said);
});
