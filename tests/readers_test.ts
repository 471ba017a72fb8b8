/**
 * Readers beside a live writer: committed batches only, never a torn, missing,
 * repeated or wrong entry, whatever the writer does and whenever it dies.
 *
 * Load in threads and processes of all runtimes; and, because load does not
 * find them, forced interleavings at every call of the storage, and pages
 * that lie.
 *
 * @module
 */

import { describe, it } from "node:test";
import { Random } from "../testing/mod.ts";
import { assertGreater } from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { ReadersLoad } from "./_readers_load.ts";
import {
  pointCounts,
  READER_CALLS,
  type ReaderCase,
  runReaderCase,
  runWriterCase,
  showCase,
  showReaderCase,
  type WriterCase,
} from "./_readers_points.ts";
import { LIES, type PageCounts, runLie } from "./_readers_pages.ts";
import { OPERATIONS, SETUPS } from "./_readers_scene.ts";
import { NAMES, runNamed, THINGS } from "./_readers_names.ts";
import { RUNTIMES, temporaryFolder, THIS_RUNTIME } from "./_storages.ts";
import { REAL } from "./_wal.ts";

const FILE = "tests/readers_test.ts";
const SECONDS = budgetOf({ smoke: 10, long: 600 });
const SEED = seedOf();
/** All forced interleavings, or some that the seed chooses. */
const ALL = SECONDS >= 60;
/** Of the budget; the rest is for what is forced. */
const LOAD_MS = SECONDS * (ALL ? 900 : 600);
const ROUND_MS = ALL ? 8000 : 2000;
const OPTIONS = { timeout: 86_400_000 };

/** Runs one case; its failure says which it was. */
async function named<T>(what: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    const { message } = error as Error;
    const text = `E-1 ${what}: ${message}\n${replay(FILE)}`;
    throw new Error(text, { cause: error });
  }
}

/** Some of the cases, unless all are to be run. */
function chosen<T>(cases: readonly T[], count: number, stream: number): T[] {
  if (ALL) return [...cases];
  return new Random(SEED, stream).shuffle([...cases]).slice(0, count);
}

function report(what: string, counts: object): void {
  console.log(`E-1 ${what}: seed ${SEED}, ${JSON.stringify(counts)}`);
}

describe("E-1 readers beside a live writer", () => {
  it("never see a wrong entry under load", OPTIONS, async () => {
    const startMs = performance.now();
    await using load = new ReadersLoad(SEED);
    await named(`load on ${THIS_RUNTIME}`, async () => {
      for (
        let nth = 0;
        nth < 2 || performance.now() - startMs < LOAD_MS - ROUND_MS / 2;
        nth++
      ) await load.round(ROUND_MS);
    });
    const readers = RUNTIMES.map(({ name }) => name).join(", ");
    report(
      `load: writer on ${THIS_RUNTIME}, readers on ${readers}`,
      load.counts,
    );
    assertGreater(load.counts.compared, 0);
    assertGreater(load.counts.deaths, 0);
  });

  const kinds = [false, true].flatMap((mapped) =>
    [false, true].map((soon) => ({ mapped, soon }))
  );
  let nth = 0;
  const single: WriterCase[] = kinds.flatMap((kind) =>
    SETUPS.flatMap((setup) =>
      OPERATIONS.map((one) => ({
        ...kind,
        setup,
        operations: [one],
        nth: nth++,
      }))
    )
  );

  it("see what was published, at every call of a writer", OPTIONS, async () => {
    const counts = pointCounts();
    for (const one of chosen(single, 60, 1)) {
      await named(showCase(one), () => runWriterCase(one, counts));
    }
    report("calls of a writer", counts);
  });

  it("see it long after their last look", OPTIONS, async () => {
    const counts = pointCounts();
    const pairs = SETUPS.flatMap((setup) =>
      OPERATIONS.flatMap((first) =>
        OPERATIONS.map((second): WriterCase => ({
          setup,
          operations: [first, second],
          mapped: false,
          soon: false,
          nth: nth++,
        }))
      )
    ).filter(({ operations }) => operations[0]!.name !== "retention");
    for (const one of chosen(pairs, 60, 2)) {
      await named(showCase(one), () => runWriterCase(one, counts));
    }
    report("calls of a writer, two operations", counts);
  });

  it("see what a killed writer leaves", OPTIONS, async () => {
    const counts = pointCounts();
    const mortal = single.filter(({ mapped, soon, operations }) =>
      // The dead must not store into mappings, nor have promises.
      !mapped && !soon &&
      !["retention", "refused append"].includes(operations[0]!.name)
    );
    for (const one of chosen(mortal, 6, 3)) {
      let deathAt = 0;
      let calls = Infinity;
      while (++deathAt <= calls) {
        const dying = { ...one, deathAt, nth: nth++ };
        const made = await named(
          showCase(dying),
          () => runWriterCase(dying, counts),
        );
        // One that was not killed has made all of its calls.
        if (made < deathAt) calls = made;
      }
    }
    report("deaths of a writer", counts);
    assertGreater(counts.deaths, 0);
  });

  it(
    "are right though a writer acts at their every call",
    OPTIONS,
    async () => {
      const counts = pointCounts();
      const rows = [
        ...OPERATIONS.filter(({ name }) => name !== "retention")
          .map(({ name }) => [name]),
        ["truncateAfter the first", "batch", "batch"],
        ["truncateAfter nothing", "batch", "large batch"],
        [
          "truncateBefore the last",
          "rotate",
          "batch",
          "truncateBefore the last",
        ],
        ["reset to 1", "batch", "batch", "rotate", "batch"],
        ["large batch", "large batch", "truncateBefore the middle"],
      ];
      const cases = SETUPS.flatMap((setup) =>
        READER_CALLS.flatMap((call) =>
          rows.map((operations): Omit<ReaderCase, "at"> => ({
            setup,
            call,
            operations,
            mapped: false,
          }))
        )
      );
      for (const one of chosen(cases, 60, 4)) {
        for (let at = 1, acted = true; acted; at++) {
          const now = { ...one, at };
          acted = await named(
            showReaderCase(now),
            () => runReaderCase(now, counts),
          );
        }
      }
      report("calls of a reader", counts);
    },
  );

  it("believe no page that lies", OPTIONS, async () => {
    const counts: PageCounts = { cases: 0, right: 0, errors: {} };
    const random = new Random(SEED, 5);
    for (const mapped of [false, true]) {
      for (const setup of SETUPS) {
        for (const lie of LIES) {
          const kind = mapped ? "mapped" : "files";
          await named(
            `${setup.name}: ${lie.name} [${kind}]`,
            () => runLie(setup, lie, mapped, random, counts),
          );
        }
      }
    }
    report("lies", counts);
    assertGreater(counts.right, 0);
  });

  it("take nothing else for a page", OPTIONS, () => {
    const cases = REAL.flatMap((storage) =>
      NAMES.flatMap((name) =>
        Object.keys(THINGS).map((thing) => ({ ...storage, name, thing }))
      )
    );
    const some = chosen(cases, 8, 6);
    for (const { kind, make, name, thing } of some) {
      using folder = temporaryFolder();
      try {
        runNamed(folder.path, make, name, thing);
      } catch (error) {
        const what = `E-1 "${name}" is ${thing} [${kind}]`;
        throw new Error(`${what}: ${(error as Error).message}`, {
          cause: error,
        });
      }
    }
    report("names", { cases: some.length });
  });
});
