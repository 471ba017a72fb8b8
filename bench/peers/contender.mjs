/**
 * The small interface that all contenders have, and how their packages are
 * loaded. One file of this folder is one contender; it exports `contender`.
 *
 * @typedef {object} Contender
 * @property {string} about What it is, in a few words.
 * @property {Promise_} promise What survives once a call has come back.
 * @property {boolean} [blocking] Calls do their work before they return; else
 *   they return promises, and many are in flight when throughput is measured.
 * @property {boolean} [follows] `follow` works from another process.
 * @property {boolean} [warms] What it loads has `openWarm` too.
 * @property {number} [entryBytesMax] The largest payload it takes.
 * @property {number} [batchBytesMax] The largest batch it takes, payloads only.
 * @property {() => Promise<{ version: string, open: Open }>} load Throws where
 *   it does not install or load; the reason is shown, not hidden.
 *
 * @typedef {object} Promise_
 * @property {string} append After an append that is not synced.
 * @property {string} durable After a synced one; "none" if there is no such.
 *
 * @typedef {(folder: string, options: OpenOptions) => Log | Promise<Log>} Open
 *
 * @typedef {object} OpenOptions
 * @property {boolean} durable Appends are done when power loss spares them.
 * @property {"mapped" | "files"} [storage] For walrus alone.
 *
 * @typedef {object} Log
 * @property {(bytes: Uint8Array) => unknown} append One entry.
 * @property {(bytes: Uint8Array) => Promise<unknown>} [appendSoon] One entry
 *   whose sync is shared with those of other callers.
 * @property {(list: Uint8Array[]) => unknown} appendBatch All or nothing.
 * @property {(index: number) => unknown} get The bytes of an entry, from 0.
 * @property {(visit: (bytes: Uint8Array) => void) => unknown} scan Every entry.
 * @property {() => number | Promise<number>} count How many entries there are.
 * @property {() => unknown} [settle] Waits for what appends left for later.
 * @property {() => unknown} close
 */

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);

/** Promises, in the words of the tables. */
export const SURVIVES = {
  nothing: "nothing",
  process: "process death",
  power: "power loss",
  none: "none",
};

/** Loads a package of this folder; the name is hidden from type checkers. */
export function load(name) {
  return require(name);
}

/** The version of an installed package. */
export function versionOf(name) {
  const url = new URL(`./node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(url, "utf8")).version;
}

/** Entry numbers as 8 bytes whose order is that of the numbers. */
export function keyOf(index) {
  const key = new Uint8Array(8);
  new DataView(key.buffer).setUint32(4, index);
  return key;
}

/** The number that `keyOf` made a key of. */
export function indexOf(key) {
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  return view.getUint32(4);
}
