/**
 * What calls allocate and what a log keeps in memory, counted in bytes of
 * heap: the work that a collector will have, which no timing of a short run
 * shows. The figures depend on the engine, and not on the machine.
 */
import { describe, it } from "node:test";
import { assert, assertGreaterOrEqual, assertLessOrEqual } from "./_assert.ts";
import { ENGINE, measureHeap } from "./_guard_heap.ts";
import { HAS_FFI } from "./_storages.ts";

/** A child takes a second, longer where all processors are busy. */
const TIMEOUT_MS = 120_000;

/** An object of two fields takes 40 bytes in V8 and 32 in JavaScriptCore. */
const KNOWN_BYTES_MIN = 24;
const KNOWN_BYTES_MAX = 56;

/** An offset for each takes 4 at least; compiled code makes up to one here. */
const KEPT_BYTES_MAX = 2;

/** The most bytes of heap for one call with an entry of 256 bytes. */
const LIMITS = {
  mapped: {
    V8: {
      append: 64,
      promised: 120,
      batched: 48,
      get: 900,
      view: 350,
      next: 900,
    },
    JSC: {
      append: 48,
      promised: 72,
      batched: 40,
      get: 570,
      view: 200,
      next: 570,
    },
  },
  // A window into the file, and arguments for the system.
  files: {
    V8: {
      append: 1500,
      promised: 1600,
      batched: 96,
      get: 1900,
      view: 1900,
      next: 930,
    },
    JSC: {
      append: 1000,
      promised: 1050,
      batched: 72,
      get: 1250,
      view: 1250,
      next: 580,
    },
  },
};

for (const kind of ["mapped", "files"] as const) {
  const skip = kind === "mapped" && !HAS_FFI && "this runtime has no FFI";
  const limits = Object.entries(LIMITS[kind][ENGINE]);

  describe(`guard of the heap [${kind}]`, () => {
    let found: ReadonlyMap<string, number> | undefined;

    it("an object of known size is measured", {
      timeout: TIMEOUT_MS,
      skip,
    }, () => {
      found = measureHeap("calls", kind);
      const known = found.get("known")!;
      assertGreaterOrEqual(known, KNOWN_BYTES_MIN);
      assertLessOrEqual(known, KNOWN_BYTES_MAX);
    });

    for (const [call, limit] of limits) {
      it(`it allocates no more than its bytes: ${call}`, { skip }, () => {
        assert(found !== undefined, "the child did not do its work");
        const bytes = Math.round(found.get(call)!);
        console.log(`${kind}, ${ENGINE}, ${call}: ${bytes} bytes (≤ ${limit})`);
        assertLessOrEqual(bytes, limit);
        assertGreaterOrEqual(bytes, 0, "something was collected meanwhile");
      });
    }

    it("an open log keeps nothing in memory for its entries", {
      timeout: TIMEOUT_MS,
      skip,
    }, () => {
      for (const [when, bytes] of measureHeap("kept", kind)) {
        console.log(
          `${kind}, ${ENGINE}, kept for an entry after ${when}: ` +
            `${bytes.toFixed(2)} bytes (≤ ${KEPT_BYTES_MAX})`,
        );
        assertLessOrEqual(bytes, KEPT_BYTES_MAX, when);
      }
    });
  });
}
