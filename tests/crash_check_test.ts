/**
 * `checkEveryCrash`, on a program so small that each of its mistakes is known:
 * a counter in a file that is replaced by a rename.
 *
 * @module
 */

import { describe, it } from "node:test";
import type { StorageDirectory } from "../src/storage.ts";
import {
  checkEveryCrash,
  type CrashCheck,
  CrashCheckError,
  type CrashPoint,
  type SimulatedStorage,
} from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
} from "./_assert.ts";

/** A step that the program may leave out, or a fault of another kind. */
type Mistake = "none" | "file sync" | "directory sync" | "early promise";

const COUNTS = 3;

function openFolder(storage: SimulatedStorage): StorageDirectory {
  const modes = { directoryMode: 0o700, fileMode: 0o600 };
  return storage.openDirectory("counter", { create: true, ...modes })!;
}

/** Replaces the counter; `promise` is called when it cannot be lost. */
function count(
  directory: StorageDirectory,
  value: number,
  mistake: Mistake,
  promise: () => void,
): void {
  if (mistake === "early promise") promise();
  const file = directory.create(`${value}.tmp`, 8);
  file.writeAt(new Uint8Array(8).fill(value), 0);
  if (mistake !== "file sync") file.sync();
  file.close();
  directory.rename(`${value}.tmp`, "counter");
  if (mistake !== "directory sync") directory.sync();
  promise();
}

/** The counter; 0 when there is none. */
function read(directory: StorageDirectory): number {
  const file = directory.open("counter", "read");
  if (file === undefined) return 0;
  const bytes = new Uint8Array(8);
  assertEquals(file.readAt(bytes, 0), 8, "the counter is cut short");
  file.close();
  assert(bytes.every((byte) => byte === bytes[0]), `torn: ${bytes}`);
  return bytes[0]!;
}

interface Seen {
  readonly crashes: CrashPoint[];
}

function checkCounter(
  mistake: Mistake,
  options: Partial<CrashCheck<{ value: number }>> = {},
): CrashCheck<{ value: number }> & Seen {
  const promised = { value: 0 };
  const crashes: CrashPoint[] = [];
  return {
    crashes,
    workload(storage) {
      const directory = openFolder(storage);
      for (let value = 1; value <= COUNTS; value++) {
        count(directory, value, mistake, () => void (promised.value = value));
      }
      directory.close();
    },
    // One object for all crashes: it is copied at each of them.
    promised: () => promised,
    verify(storage, { value }, crash) {
      crashes.push(crash);
      const found = read(openFolder(storage));
      assert(found >= value, `${found} of ${value}`);
      assert(found <= value + 1, `${found}, not begun after ${value}`);
    },
    ...options,
  };
}

/** The check without what the tests look at. */
function run(
  { crashes: _, ...check }: CrashCheck<{ value: number }> & Seen,
): ReturnType<typeof checkEveryCrash> {
  return checkEveryCrash(check);
}

describe("checkEveryCrash()", () => {
  it("crashes a sound program at every call, and finds nothing", async () => {
    const check = checkCounter("none");
    const tally = await run(check);
    // openDirectory, and five calls a count; 4 power cuts and a death at
    // each and at the end; each crashed twice more, once inside the other.
    const calls = 1 + 5 * COUNTS;
    const crashes = (calls + 1) * 5;
    assertEquals(tally, {
      seed: 1,
      calls,
      crashes: 3 * crashes,
      insideVerify: 2 * crashes,
    });
    assertEquals(check.crashes.length, 3 * crashes);
    const deaths = check.crashes.filter(({ kind }) => kind === "death");
    assert(deaths.length > calls, `${deaths.length} deaths`);
    // What a power cut took is gone, however it went on: only deaths inside
    // of deaths are deaths.
    for (const { kind, at, replay } of check.crashes) {
      const cut = at.includes("a power cut");
      assertEquals(kind, cut ? "power" : "death", at);
      assertEquals(replay.includes("death"), at.startsWith("the death"), at);
    }
    assertEquals(
      new Set(check.crashes.map(({ replay }) => replay)).size,
      3 * crashes,
    );
  });

  const mistakes: [Mistake, string][] = [
    ["file sync", "the rename survived, the bytes did not"],
    ["directory sync", "the bytes survived, the name did not"],
    ["early promise", "promised before it was so"],
  ];
  for (const [mistake, what] of mistakes) {
    it(`finds a program without its ${mistake}: ${what}`, async () => {
      for (let seed = 1; seed <= 5; seed++) {
        const error = await assertRejects(
          () => run(checkCounter(mistake, { seed })),
          CrashCheckError,
        );
        assertEquals(error.seed, seed);
        assertStringIncludes(error.message, `call ${error.crash.call}, `);
        assert(error.cause instanceof Error);
      }
    });
  }

  it("finds that the syncs of a disk lie", async () => {
    const disk = { honestSyncs: false };
    await assertRejects(
      () => run(checkCounter("none", { disk })),
      CrashCheckError,
    );
  });

  it("replays the crash that it names, alone and to the byte", async () => {
    for (const mistake of ["file sync", "directory sync"] as const) {
      const first = await assertRejects(
        () => run(checkCounter(mistake)),
        CrashCheckError,
      );
      assertStringIncludes(first.message, `replay: "${first.crash.replay}"`);
      const check = checkCounter(mistake, { replay: first.crash.replay });
      const again = await assertRejects(() => run(check), CrashCheckError);
      assertEquals(again.message, first.message);
      assertEquals(check.crashes.length, 1);
    }
  });

  it("replays a crash inside of a crash", async () => {
    const failing = (options: Partial<CrashCheck<{ value: number }>>) => {
      const check = checkCounter("none", options);
      return {
        ...check,
        verify: (
          ...[storage, promised, crash]: Parameters<typeof check.verify>
        ) => {
          check.verify(storage, promised, crash);
          // As if it were only wrong at the second crash inside of another.
          assert(crash.replay.split(">").length < 3, crash.at);
        },
      };
    };
    const first = await assertRejects(() => run(failing({})), CrashCheckError);
    assertStringIncludes(first.message, "inside of verify at call");
    const { replay } = first.crash;
    const check = failing({ replay });
    const again = await assertRejects(() => run(check), CrashCheckError);
    assertEquals(again.message, first.message);
    assertEquals(check.crashes.map((crash) => crash.replay), [
      replay.split(">")[0],
      replay.slice(0, replay.lastIndexOf(">")),
      replay,
    ]);
  });

  it("does less when it is told so", async () => {
    const options = { everyNthCall: 4, powerCuts: 1, insideVerify: false };
    const check = checkCounter("none", options);
    const tally = await run(check);
    assertEquals(tally.insideVerify, 0);
    // Calls 4, 8, 12, 16 and the end, each with a power cut and a death.
    assertEquals(check.crashes.map(({ replay }) => replay), [
      "4.0",
      "4.death",
      "8.0",
      "8.death",
      "12.0",
      "12.death",
      "16.0",
      "16.death",
      "end.0",
      "end.death",
    ]);
    assertEquals(check.crashes.map(({ call }) => call).at(-1), 0);
  });

  it("is one history for one seed, and others for others", async () => {
    const history = async (seed: number) => {
      const seen: string[] = [];
      const check = checkCounter("none", { seed });
      await run({
        ...check,
        verify(storage) {
          seen.push(storage.crashReport.join());
          read(openFolder(storage));
        },
      });
      return seen.join();
    };
    assertEquals(await history(1), await history(1));
    assert(await history(1) !== await history(2));
  });

  it("waits for workloads and judges that are asynchronous", async () => {
    const check = checkCounter("none");
    let judging = 0;
    const tally = await run({
      ...check,
      async workload(storage) {
        await Promise.resolve();
        await check.workload(storage);
      },
      async verify(storage, promised, crash) {
        assertEquals(++judging, 1);
        await Promise.resolve();
        await check.verify(storage, promised, crash);
        judging--;
      },
    });
    assertEquals(tally.crashes, check.crashes.length);
  });

  it("hands on what the workload throws", async () => {
    const error = new Error("a bug of the workload");
    const workload = () => {
      throw error;
    };
    const thrown = await assertRejects(() =>
      run(checkCounter("none", { workload }))
    );
    assertEquals(thrown, error);
  });

  it("hands on what promised() throws, and does not call it a crash", async () => {
    let asked = 0;
    const promised = () => {
      if (++asked === 3) throw new RangeError("no promise");
      return { value: 0 };
    };
    await assertRejects(
      () => run(checkCounter("none", { promised })),
      RangeError,
      "no promise",
    );
  });

  const wrong: [
    Partial<CrashCheck<{ value: number }>>,
    typeof Error,
    string,
  ][] = [
    [{ workload: () => {} }, TypeError, "it made no call"],
    [
      {
        workload: (disk) => {
          openFolder(disk);
          disk.crash();
        },
      },
      TypeError,
      "it crashed it",
    ],
    [
      {
        workload: (disk) => {
          openFolder(disk).list();
          disk.onCall(() => {});
          openFolder(disk);
        },
      },
      TypeError,
      "it called onCall",
    ],
    [
      { replay: "99.0" },
      RangeError,
      'there is no crash "99.0" in the 16 calls',
    ],
    [{ replay: 1 as never }, TypeError, "replay is 1, expected a string"],
    [{ verify: undefined as never }, TypeError, "verify is undefined"],
    [{ seed: -1 }, RangeError, "seed is -1"],
    [{ powerCuts: 1001 }, RangeError, "powerCuts is 1001"],
    [{ everyNthCall: 0 }, RangeError, "everyNthCall is 0"],
    [{ insideVerify: 1 as never }, TypeError, "insideVerify is 1"],
    [{ disk: { seed: 1 } as never }, TypeError, "disk has a seed"],
    [{ disk: { sed: 1 } as never }, TypeError, '"sed" is not an option'],
    [{ every: 1 } as never, TypeError, '"every" is not an option'],
  ];
  for (const [options, kind, message] of wrong) {
    it(`refuses a check that cannot be made: ${message}`, async () => {
      await assertRejects(
        () => run(checkCounter("none", options)),
        kind,
        message,
      );
    });
  }
});
