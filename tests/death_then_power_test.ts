/**
 * A process dies in the middle of a cut, which only the page cache knows; the
 * log is opened, and the power goes at any call of that opening. What the
 * opening did must not rest on what was never synced.
 *
 * @module
 */

import { test } from "node:test";
import { openWalSync, type Wal } from "../mod.ts";
import { SimulatedStorage } from "../testing/mod.ts";
import { assert } from "./_assert.ts";

const LOG = "log";
const TEXTS = ["one", "two", "three", "four"];

function textsOf(wal: Wal): string {
  return [...wal].map((entry) => entry.text()).join(" ");
}

/** What the platter holds when the power goes at each call of an opening. */
function imagesOf(storage: SimulatedStorage): [string, SimulatedStorage][] {
  const images: [string, SimulatedStorage][] = [];
  storage.onCall(({ operation, name, count }) => {
    const at = `${operation} ${name} (call ${count})`;
    for (const kept of [true, false]) {
      // Names by themselves, pages by themselves.
      for (const page of ["new", "old"] as const) {
        const options = { pages: () => page, names: () => kept };
        images.push([`${at}, ${page}, ${kept}`, storage.image(options)]);
      }
    }
  });
  openWalSync(LOG, { storage });
  storage.onCall(undefined);
  return images;
}

const CUTS: readonly [string, (wal: Wal) => Promise<void>][] = [
  ["truncateAfter(1)", (wal) => wal.truncateAfter(1)],
  ["truncateAfter(0)", (wal) => wal.truncateAfter(0)],
  ["reset(9)", (wal) => wal.reset(9)],
  ["truncateBefore(4)", (wal) => wal.truncateBefore(4)],
];

for (const mapped of [true, false]) {
  for (const [name, cut] of CUTS) {
    const kind = mapped ? "mapped" : "files";
    test(`power loss while a dead ${name} is opened [${kind}]`, () => {
      const storage = new SimulatedStorage({ seed: 1, mapped, writeback: 0 });
      const wal = openWalSync(LOG, { storage, segmentBytes: 65536 });
      for (const text of TEXTS) {
        wal.appendSync(text);
        wal.rotateSync();
      }
      cut(wal).catch(() => {});
      const after = textsOf(wal);
      const images = imagesOf(storage.processDeath());
      for (const [at, image] of images) {
        const again = openWalSync(LOG, { storage: image });
        const found = textsOf(again);
        const allowed = [TEXTS.join(" "), after];
        assert(allowed.includes(found), `${at}: found "${found}"`);
        again.closeSync();
      }
    });
  }
}
