/** Walrus itself, as its README says to use it. */
import {
  filesStorage,
  mappedStorage,
  openReader,
  openWal,
  openWalSync,
} from "../../mod.ts";
import { warmStorage } from "../micro_cases.ts";
import { readFileSync } from "node:fs";
import { SURVIVES } from "./contender.mjs";

export const contender = {
  about: "this library",
  promise: { append: SURVIVES.process, durable: SURVIVES.power },
  blocking: true,
  follows: true,
  warms: true,
  load() {
    const manifest = new URL("../../deno.json", import.meta.url);
    const { version } = JSON.parse(readFileSync(manifest, "utf8"));
    return Promise.resolve({ version, open, openWarm, follow });
  },
};

function storageOf(name) {
  return name === "files" ? filesStorage() : mappedStorage();
}

async function open(folder, options) {
  const wal = await openWal(folder, {
    storage: storageOf(options.storage),
    sync: options.durable ? "always" : "never",
  });
  return {
    append: (bytes) => wal.appendSync(bytes),
    appendSoon: (bytes) => wal.append(bytes),
    appendBatch: (list) => wal.appendBatchSync(list),
    get: (index) => wal.get(index + 1).data,
    scan(visit) {
      for (const entry of wal.entries()) visit(entry.data);
    },
    count: () => wal.length,
    close: () => wal.close(),
  };
}

/** A log in memory, all of whose pages are there: see micro_cases.ts. */
function openWarm(segmentBytes) {
  const storage = warmStorage();
  const wal = openWalSync("/log", { storage, sync: "never", segmentBytes });
  return {
    append: (bytes) => wal.appendSync(bytes),
    close: () => wal.closeSync(),
  };
}

/** Delivers what another process appends, until `visit` returns false. */
async function follow(folder, options, visit) {
  const reader = await openReader(folder, {
    storage: storageOf(options.storage),
  });
  options.onReady?.();
  for await (const entry of reader.follow({ from: "end" })) {
    if (visit(entry.data) === false) break;
  }
  await reader.close();
}
