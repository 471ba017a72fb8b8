/**
 * Repairs: what is sound stays, what is cut is kept, what is wrong and can be
 * made again is, and a crash in the middle harms nothing.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { describe, it } from "node:test";
import {
  type Encoder,
  openReaderSync,
  openWalSync,
  SegmentNotFoundError,
  StorageError,
  UnsupportedFormatError,
  type Wal,
  WalCorruptedError,
  WalLockedError,
} from "../mod.ts";
import { openLogFolder } from "../src/look.ts";
import {
  planRepair,
  type Remedy,
  repairLog,
  type RepairPlan,
  type RepairReport,
} from "../src/repair_log.ts";
import type { SalvageCopy } from "../src/salvage_report.ts";
import { salvageInto } from "../src/salvage_copy.ts";
import { runBlocking, runSoon } from "../src/steps.ts";
import { verifyLog } from "../src/verify.ts";
import { CrashNow, type SimulatedStorage } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import {
  blockAt,
  copyFiles,
  type Files,
  frameOffsets,
  getU32,
  killedLog,
  LOG,
  loseLink,
  makeLog,
  plantFiles,
  sameFiles,
  sealIdentity,
  segmentFile,
  takeFiles,
} from "./_log_bytes.ts";
import { budgetOf } from "./_budget.ts";
import { onEach, putBytes, readBytes, removeFile } from "./_wal.ts";

/** What crashes at one call leave: so many disks, of so many kinds. */
const IMAGES = budgetOf({ smoke: 1, long: 12 });
const IMAGES_MAX = 6;

function append(wal: Wal, count: number): void {
  for (let i = 0; i < count; i++) {
    wal.appendSync(`entry ${wal.nextIndex}`, { durable: false });
  }
}

/** Entries 1 to 100, 101 to 103 as a batch, 104 to 150. */
const THREE: Files = makeLog((wal) => {
  append(wal, 100);
  wal.rotateSync();
  wal.appendBatchSync(["entry 101", "entry 102", "entry 103"]);
  wal.rotateSync();
  append(wal, 47);
});

function segment(files: Files, number: number): Uint8Array<ArrayBuffer> {
  return files.get(segmentFile(number))!;
}

type Change = (files: Files) => unknown;

function damaged(change: Change, files: Files = THREE): Files {
  const changed = copyFiles(files);
  change(changed);
  return changed;
}

function plan(disk: SimulatedStorage): RepairPlan {
  const folder = openLogFolder(disk, LOG);
  try {
    return planRepair(folder);
  } finally {
    folder.close();
  }
}

function repair(disk: SimulatedStorage, remedy: Remedy): RepairReport {
  return runBlocking(repairLog(disk, LOG, remedy));
}

/** What a verification objects to. */
function findings(disk: SimulatedStorage): string[] {
  const folder = openLogFolder(disk, LOG);
  try {
    const steps = verifyLog(folder);
    let step = steps.next();
    while (!step.done) step = steps.next();
    return step.value.findings.map(({ kind, message }) =>
      `${kind}: ${message}`
    );
  } finally {
    folder.close();
  }
}

/** Opens for writing: which entries there are; they must be the right ones. */
function indexes(disk: SimulatedStorage): [number, number] {
  using wal = openWalSync(LOG, { storage: disk });
  for (
    const { index, text } of Array.from(wal, (entry) => ({
      index: entry.index,
      text: entry.text(),
    }))
  ) assertEquals(text, `entry ${index}`);
  return [wal.firstIndex, wal.lastIndex];
}

/** Everything below `cut`, by its name without the folder of its time. */
function savedFiles(disk: SimulatedStorage): Map<string, Uint8Array[]> {
  const saved = new Map<string, Uint8Array[]>();
  const folder = openLogFolder(disk, LOG);
  if (folder.list().some(({ name }) => name === "cut")) {
    for (const { name: time } of folder.list("cut")) {
      for (const { name } of folder.list(`cut/${time}`)) {
        const bytes = disk.peek(`${LOG}/cut/${time}/${name}`)!;
        saved.set(name, [...saved.get(name) ?? [], bytes]);
      }
    }
  }
  folder.close();
  return saved;
}

/** Every byte of the files before is still there, in place or in `cut`. */
function assertNothingGone(disk: SimulatedStorage, before: Files): void {
  const saved = savedFiles(disk);
  const now = takeFiles(disk);
  for (const [name, bytes] of before) {
    const there = now.get(name);
    const kept = saved.get(name) ?? [];
    if (kept.some((one) => sameBytes(one, bytes))) continue;
    assert(there !== undefined, `${name} is gone`);
    if (name === "manifest" || sameBytes(there, bytes)) continue;
    // What opening makes again: index, footer, a spare header record.
    const last = frameOffsets(bytes).at(-1);
    const end = last === undefined ? 4096 : last + getU32(bytes, last + 4);
    const frames = there.subarray(4096, end);
    assert(sameBytes(frames, bytes.subarray(4096, end)), `${name} has changed`);
  }
}

/** Where files move into folders whose making is lost. */
function renamesOnly(disk: SimulatedStorage): SimulatedStorage[] {
  const isRename = (change: string) => change.startsWith("rename");
  if (!disk.pendingNames().some(isRename)) return [];
  return [disk.image({ pages: () => "new", names: isRename })];
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** What a crash at call `nth` leaves, one of `IMAGES_MAX`. */
function whatIsLeft(
  disk: SimulatedStorage,
  nth: number,
  i: number,
): SimulatedStorage {
  switch ((nth + i) % IMAGES_MAX) {
    case 0:
      return disk.image({ pages: () => "old", names: () => false });
    case 1:
      return disk.image({ pages: () => "new", names: () => true });
    case 2:
      return disk.image({ pages: () => "old", names: () => true });
    case 3:
      return disk.fork();
    default:
      return disk.image({ seed: nth * IMAGES_MAX + i });
  }
}

/** A damaged log, and what a cut must leave of it. */
interface Case {
  readonly name: string;
  readonly files: Files;
  readonly left: [number, number];
  /** Whether opening takes it: it was closed, and is not scanned. */
  readonly opens?: boolean;
}

const offsets1 = frameOffsets(segment(THREE, 1));
const offsets2 = frameOffsets(segment(THREE, 2));
const offsets3 = frameOffsets(segment(THREE, 3));

const CUTS: readonly Case[] = [
  {
    name: "a flipped byte in the first segment",
    files: damaged((files) => segment(files, 1)[offsets1[41]! + 42]! ^= 1),
    left: [1, 41],
    opens: true,
  },
  {
    name: "a flipped byte in a batch",
    files: damaged((files) => segment(files, 2)[offsets2[1]! + 42]! ^= 1),
    left: [1, 100],
    opens: true,
  },
  {
    name: "zeros in the last segment",
    files: damaged((files) =>
      segment(files, 3).fill(0, offsets3[10]!, offsets3[12]!)
    ),
    left: [1, 113],
    opens: true,
  },
  {
    name: "the very first frame",
    files: damaged((files) => segment(files, 1)[4100]! ^= 1),
    left: [0, 0],
    opens: true,
  },
  {
    name: "a missing segment in the middle",
    files: damaged((files) => files.delete(segmentFile(2))),
    left: [1, 100],
  },
  {
    name: "a missing first segment",
    files: damaged((files) => files.delete(segmentFile(1))),
    left: [0, 0],
  },
  {
    name: "a missing last segment",
    files: damaged((files) => files.delete(segmentFile(3))),
    left: [1, 103],
  },
  {
    name: "a lost link",
    files: damaged((files) => loseLink(segment(files, 2))),
    left: [1, 100],
  },
  {
    name: "a lost header of the first segment",
    files: damaged((files) => segment(files, 1).fill(0, 0, 4096)),
    left: [0, 0],
  },
  {
    name: "a missing manifest and a hole",
    files: damaged((files) => {
      files.delete("manifest");
      segment(files, 2)[offsets2[0]! + 42]! ^= 1;
    }),
    left: [1, 100],
  },
  {
    name: "a damaged manifest and a missing segment",
    files: damaged((files) => {
      files.get("manifest")![100]! ^= 1;
      files.delete(segmentFile(2));
    }),
    left: [1, 100],
  },
  {
    name: "another log's segment in place of one",
    files: damaged((files) => {
      const other = makeLog((wal) => append(wal, 20), {}, 99);
      files.set(segmentFile(2), segment(other, 1));
    }),
    left: [1, 100],
  },
  {
    name: "another log's segment above the last",
    files: damaged((files) => {
      const other = makeLog((wal) => append(wal, 20), {}, 99);
      files.set(segmentFile(7), segment(other, 1));
    }),
    left: [1, 150],
  },
  {
    name: "another log's segment below the first",
    files: damaged(
      (files) => {
        const other = makeLog((wal) => append(wal, 20), {}, 99);
        files.set(segmentFile(1), segment(other, 1));
      },
      makeLog((wal) => {
        append(wal, 100);
        wal.rotateSync();
        append(wal, 50);
        wal.truncateBeforeSync(101);
      }),
    ),
    left: [101, 150],
  },
  {
    name: "a killed log, damaged before what its marks vouch for",
    files: damaged(
      (files) => {
        const bytes = segment(files, 1);
        bytes[frameOffsets(bytes)[5]! + 42]! ^= 1;
      },
      killedLog((wal) => {
        append(wal, 20);
        wal.flushSync();
        append(wal, 5);
      }),
    ),
    left: [1, 5],
  },
];

describe("repairLog(): cut", () => {
  for (const { name, files, left, opens = false } of CUTS) {
    it(`${name}: the log ends before it, and all is kept`, () => {
      const disk = plantFiles(files);
      if (!opens) assertThrows(() => openWalSync(LOG, { storage: disk }));
      const before = plan(disk);
      assert(sameFiles(takeFiles(disk), files), "a plan changes nothing");
      assertEquals(before.opens, opens);
      const { cut } = before;
      assert(cut !== undefined);
      const count = left[1] === 0 ? 0 : left[1] - left[0] + 1;
      assertEquals(cut.keptCount, count);
      assertEquals(cut.nextIndex, left[1] + 1);
      assertEquals(cut.keptCount + cut.cutCount, before.survey.entryCount);

      const report = repair(disk, "cut");
      assertEquals([report.done, report.refusal], [true, undefined]);
      const found = findings(disk).filter((one) => !one.startsWith("index"));
      assertEquals(found, []);
      assertNothingGone(disk, files);
      for (const moved of cut.moved) {
        assert(report.savedNames.includes(moved), moved);
        const [bytes] = savedFiles(disk).get(moved)!;
        assert(sameBytes(bytes!, files.get(moved)!), moved);
      }
      const again = repair(disk, "cut");
      assertEquals([again.done, again.savedPath], [false, undefined]);

      assertEquals(indexes(disk), left);
      assertEquals(findings(disk), []);
      using wal = openWalSync(LOG, { storage: disk });
      assertEquals(wal.appendSync("more"), left[1] + 1);
      assertNothingGone(disk, files);
    });
  }

  it("copies the bytes behind the end", () => {
    const { files } = CUTS[0]!;
    const disk = plantFiles(files);
    const { savedPath, savedNames } = repair(disk, "cut");
    const tail = `${segmentFile(1)}.from-${offsets1[41]!}`;
    assertEquals(
      [...savedNames].sort(),
      [
        "manifest",
        tail,
        segmentFile(2),
        segmentFile(3),
      ].sort(),
    );
    const copy = disk.peek(`${savedPath}/${tail}`)!;
    const end = offsets1[99]! + 49;
    const { length } = copy;
    assert(length > end - offsets1[41]! - 8, `${length}`);
    const from = offsets1[41]!;
    const original = segment(files, 1).subarray(from, from + length);
    assert(sameBytes(copy, original));
  });

  it("keeps what was removed from the front removed", () => {
    const files = makeLog((wal) => {
      append(wal, 100);
      wal.truncateBeforeSync(51);
      wal.rotateSync();
      append(wal, 50);
    });
    const bytes = segment(files, 2);
    bytes[frameOffsets(bytes)[9]! + 41]! ^= 1;
    const disk = plantFiles(files);
    assertEquals(repair(disk, "cut").done, true);
    assertEquals(indexes(disk), [51, 109]);
  });

  it("a log whose front is lost begins anew at its first index", () => {
    const files = makeLog((wal) => {
      append(wal, 100);
      wal.rotateSync();
      append(wal, 10);
      wal.truncateBeforeSync(101);
      wal.rotateSync();
      append(wal, 10);
    });
    const [first] = [...files.keys()].filter((name) => name.endsWith(".wal"));
    files.delete(first!);
    const disk = plantFiles(files);
    assertEquals(repair(disk, "cut").done, true);
    using wal = openWalSync(LOG, { storage: disk });
    assertEquals([wal.length, wal.nextIndex], [0, 101]);
  });
});

describe("repairLog(): manifest", () => {
  const lost: [string, Files, [number, number]][] = [
    ["missing", damaged((files) => files.delete("manifest")), [1, 150]],
    [
      "damaged",
      damaged((files) => files.get("manifest")![70]! ^= 1),
      [1, 150],
    ],
    [
      "empty, of a json log",
      damaged(
        (files) => files.set("manifest", new Uint8Array(0)),
        makeLog((wal) => append(wal, 70), { format: "json" }),
      ),
      [1, 70],
    ],
    [
      "missing, of a killed log",
      damaged(
        (files) => files.delete("manifest"),
        killedLog((wal) => append(wal, 3000)),
      ),
      [1, 3000],
    ],
    [
      "missing, of a truncated log",
      damaged(
        (files) => files.delete("manifest"),
        makeLog((wal) => {
          append(wal, 60);
          wal.truncateAfterSync(40);
          append(wal, 20);
        }),
      ),
      [1, 60],
    ],
  ];
  for (const [name, files, expected] of lost) {
    it(`${name}: is made again from the segments`, () => {
      const disk = plantFiles(files);
      const { manifest, opens } = plan(disk);
      assert(manifest !== undefined && "manifest" in manifest);
      assertEquals([opens, manifest.assumption], [false, undefined]);
      const report = repair(disk, "manifest");
      assertEquals([report.done, report.refusal], [true, undefined]);
      assertEquals(report.savedNames.length, files.has("manifest") ? 1 : 0);
      assertNothingGone(disk, files);
      assertEquals(repair(disk, "manifest").done, false);
      assertEquals(indexes(disk), expected);
      assertEquals(findings(disk), []);
    });
  }

  it("says what it assumes of a log whose front was removed", () => {
    const files = makeLog((wal) => {
      append(wal, 100);
      wal.rotateSync();
      append(wal, 10);
      wal.truncateBeforeSync(101);
    });
    files.delete("manifest");
    const disk = plantFiles(files);
    const { manifest } = plan(disk);
    assert(manifest !== undefined && "manifest" in manifest);
    assertStringIncludes(manifest.assumption!, "entries before 101 are taken");
    assertEquals(repair(disk, "manifest").done, true);
    assertEquals(indexes(disk), [101, 110]);
  });

  it("is refused where other damage keeps from being certain", () => {
    const changes: Change[] = [
      (files) => segment(files, 1)[offsets1[3]! + 42]! ^= 1,
      (files) => files.delete(segmentFile(2)),
      (files) => files.delete(segmentFile(3)),
      (files) => loseLink(segment(files, 3)),
      (files) => segment(files, 3)[offsets3[46]! + 42]! ^= 1,
    ];
    for (const change of changes) {
      const files = damaged((files) => {
        files.delete("manifest");
        change(files);
      });
      const disk = plantFiles(files);
      const report = repair(disk, "manifest");
      assertEquals(report.done, false);
      assertStringIncludes(report.refusal!, "other damage");
      assert(sameFiles(takeFiles(disk), files), "nothing changes");
    }
  });

  it("does nothing to a sound one", () => {
    const disk = plantFiles(THREE);
    const report = repair(disk, "manifest");
    assertEquals([report.done, report.refusal], [false, undefined]);
    assert(sameFiles(takeFiles(disk), THREE), "nothing changes");
  });
});

describe("repairLog(): index", () => {
  const wrong: [string, Change][] = [
    ["a block", (files) => {
      const bytes = segment(files, 1);
      bytes[blockAt(bytes, 1) + 30]! ^= 1;
    }],
    ["all blocks and the footer", (files) => {
      const bytes = segment(files, 1);
      bytes.fill(0xaa, blockAt(bytes, 1));
    }],
    ["a footer", (files) => segment(files, 2).fill(0, 65536 - 64)],
    ["the last segment's block", (files) => {
      const bytes = segment(files, 3);
      bytes[blockAt(bytes, 0) + 24]! ^= 8;
    }],
    ["an identity", (files) => segment(files, 2)[30]! ^= 1],
    ["an identity's copy", (files) => segment(files, 3)[3968 + 30]! ^= 1],
    ["a link", (files) => segment(files, 1)[128 + 30]! ^= 1],
    ["a link's copy", (files) => segment(files, 2)[3840 + 30]! ^= 1],
    ["the first sector of each", (files) => {
      for (const number of [1, 2, 3]) segment(files, number).fill(0, 0, 512);
    }],
  ];
  for (const [name, change] of wrong) {
    it(`${name}: is made as it was`, () => {
      const files = damaged(change);
      const disk = plantFiles(files);
      assertGreater(findings(disk).length, 0);
      assertGreater(plan(disk).index.length, 0);
      assertEquals(plan(disk).cut, undefined);
      assertEquals(repair(disk, "index").done, true);
      assertEquals(findings(disk), []);
      assertEquals(repair(disk, "index").done, false);
      const now = takeFiles(disk);
      for (const [file, bytes] of THREE) {
        const made = now.get(file)!;
        // A footer's time of sealing is its successor's birth.
        const footer = bytes.length - 64;
        if (file !== "manifest") {
          for (const at of [footer + 48, footer + 56]) {
            made.fill(0, at, at + 8);
            bytes.slice();
          }
        }
        const end = file === "manifest" ? bytes.length : footer + 48;
        assert(
          sameBytes(made.subarray(0, end), bytes.subarray(0, end)),
          `${file} is not as it was`,
        );
      }
      assertEquals(indexes(disk), [1, 150]);
    });
  }

  it("leaves damaged segments as they are", () => {
    const files = damaged((files) => {
      const bytes = segment(files, 1);
      bytes[offsets1[3]! + 40]! ^= 1;
      bytes[blockAt(bytes, 1) + 40]! ^= 1;
    });
    const disk = plantFiles(files);
    assertEquals(plan(disk).index.length, 0);
    assertEquals(repair(disk, "index").done, false);
    assert(sameFiles(takeFiles(disk), files), "nothing changes");
  });
});

describe("repairLog(): who may, and where", () => {
  it("needs the writer's lock, and gives it back", () => {
    const disk = plantFiles(CUTS[0]!.files);
    const folder = openLogFolder(disk, LOG);
    const lock = folder.lock();
    for (const remedy of ["cut", "index", "manifest"] as const) {
      assertThrows(() => repair(disk, remedy), WalLockedError);
    }
    assert(sameFiles(takeFiles(disk), CUTS[0]!.files), "nothing changes");
    lock.release();
    folder.close();
    assertEquals(repair(disk, "cut").done, true);
    assertEquals(indexes(disk), [1, 41]);
  });

  it("where there is no log nothing is made", () => {
    const disk = plantFiles(new Map());
    assertThrows(() => repair(disk, "cut"), SegmentNotFoundError);
    assertEquals(takeFiles(disk).size, 0);
    assertThrows(
      () => runBlocking(repairLog(disk, "nowhere", "cut")),
      SegmentNotFoundError,
    );
  });

  it("a newer version is refused untouched", () => {
    const files = damaged((files) => {
      const bytes = segment(files, 2);
      bytes[8] = 2;
      sealIdentity(bytes);
    });
    const disk = plantFiles(files);
    assertThrows(() => repair(disk, "cut"), UnsupportedFormatError);
    assert(sameFiles(takeFiles(disk), files), "nothing changes");
  });

  it("a full disk stops it before anything is taken away", () => {
    for (const { files, left } of CUTS) {
      for (let after = 0;; after++) {
        const disk = plantFiles(files);
        disk.failNext("create", "ENOSPC", { after });
        try {
          repair(disk, "cut");
          break;
        } catch (error) {
          assert(error instanceof StorageError, String(error));
        }
        assertNothingGone(disk, files);
        repair(disk, "cut");
        assertEquals(indexes(disk), left);
      }
    }
  });

  it("runs without blocking, too", async () => {
    const disk = plantFiles(CUTS[1]!.files);
    const report = await runSoon(repairLog(disk, LOG, "cut"));
    assertEquals(report.done, true);
    assertEquals(indexes(disk), [1, 100]);
  });

  onEach("works on every storage", async (place) => {
    const wal = await place.open();
    for (let i = 1; i <= 300; i++) {
      await wal.append(`entry ${i}`, { durable: false });
      if (i % 100 === 0) await wal.rotate();
    }
    await wal.close();
    const name = segmentFile(2);
    const bytes = readBytes(place, name);
    bytes.fill(0, 4096 + 512, 4096 + 1024);
    putBytes(place, name, bytes);
    removeFile(place, "manifest");
    await assertRejects(() => place.open());
    const { storage, path } = place;
    const report = await runSoon(repairLog(storage, path, "cut"));
    assertEquals([report.done, report.refusal], [true, undefined]);
    await using again = await place.open();
    assertEquals(again.lastIndex, report.plan.cut!.nextIndex - 1);
    assertGreater(again.lastIndex, 100);
    using reader = openReaderSync(path, { storage });
    assertEquals(
      reader.get(again.lastIndex).text(),
      `entry ${again.lastIndex}`,
    );
  });
});

describe("repairLog(): crashes", () => {
  const INDEX = damaged((files) => {
    for (const number of [1, 2, 3]) {
      const bytes = segment(files, number);
      bytes.fill(0x11, blockAt(bytes, 1));
      bytes.fill(0, 0, 512);
    }
  });
  const MANIFEST = damaged((files) => files.get("manifest")![70]! ^= 1);
  const runs: readonly (Case & { remedy: Remedy })[] = [
    ...CUTS.map((one) => ({ ...one, remedy: "cut" as const })),
    { name: "indexes", files: INDEX, left: [1, 150], remedy: "index" },
    { name: "manifest", files: MANIFEST, left: [1, 150], remedy: "manifest" },
  ];

  /** Power is cut at each call; what is found is repaired again. */
  for (const { name, files, left, remedy } of runs) {
    it(
      `${remedy}: ${name}: power cut at every call`,
      { timeout: 60_000 },
      () => {
        let states = 0;
        for (let nth = 1;; nth++) {
          const disk = plantFiles(files, nth);
          const before = disk.callCount;
          disk.onCall(({ count }) => {
            if (count === before + nth) throw new CrashNow("here");
          });
          try {
            repair(disk, remedy);
            disk.onCall(undefined);
            // Done is done: no power cut takes it back.
            const after = disk.image({
              pages: () => "old",
              names: () => false,
            });
            assertEquals(findings(after), []);
            assertEquals(indexes(after), left);
            break;
          } catch (error) {
            assert(error instanceof CrashNow, String(error));
          }
          const found = renamesOnly(disk);
          for (let i = 0; i < IMAGES; i++) found.push(whatIsLeft(disk, nth, i));
          for (const image of found) {
            states++;
            assertNothingGone(image, files);
            repair(image, remedy);
            assertEquals(indexes(image), left, `call ${nth}`);
            assertNothingGone(image, files);
            assertEquals(findings(image), []);
          }
        }
        assertGreater(states, 20);
      },
    );
  }
});

/** One salvage of the log in `LOG` into `NEW`. */
function salvageTo(disk: SimulatedStorage, target = NEW): SalvageCopy {
  return runBlocking(salvageInto({ storage: disk, source: LOG, target }));
}

/** Every entry of a log, by what a salvage must keep of it. */
function contents(disk: SimulatedStorage, path: string): string[] {
  using log = openReaderSync(path, { storage: disk, recovery: "salvage" });
  const { gaps } = log.recovery;
  const found: string[] = [];
  for (let index = log.firstIndex || 1; index < log.nextIndex; index++) {
    const lost = gaps.some((one) =>
      one.firstLostIndex <= index && index <= one.lastLostIndex
    );
    if (lost) continue;
    const { term, timestampNs, transactionId, data } = log.get(index);
    const id = transactionId ?? "none";
    found.push(`${term} ${timestampNs} ${id} ${Buffer.from(data)}`);
  }
  return found;
}

/** The flags of all frames, in order: which entries are batches. */
function flagsOf(files: Files): number[] {
  return [...files.keys()].filter((name) => name.endsWith(".wal")).sort()
    .flatMap((name) => {
      const bytes = files.get(name)!;
      return frameOffsets(bytes).map((at) => bytes[at + 16]!);
    }).filter((flags) => (flags & 1) !== 0);
}

const NEW = "new";

/** Entries, batches and transactions, with terms and times of their own. */
function makeMixed(format: "binary" | "json" = "binary"): Files {
  return makeLog((wal) => {
    for (let i = 1; i <= 40; i++) {
      const timestampNs = 1_700_000_000_000_000_000n + BigInt(i * 7);
      wal.appendSync({ data: `entry ${i}`, term: i % 5, timestampNs });
    }
    wal.appendBatchSync(["batch 41", "batch 42", { data: "", term: 9 }]);
    {
      using tx = wal.beginTransaction();
      tx.add("tx 44");
      tx.add("tx 45");
      tx.commitSync();
    }
    wal.rotateSync();
    wal.appendBatchSync(["batch 46", "batch 47"]);
    using tx = wal.beginTransaction();
    tx.add("tx 48");
    tx.commitSync();
    append(wal, 30);
  }, { format });
}

describe("salvageInto()", () => {
  for (const format of ["binary", "json"] as const) {
    it(`writes all that can be read into a new log [${format}]`, () => {
      const mixed = makeMixed(format);
      const at = frameOffsets(segment(mixed, 1));
      const files = damaged((files) => {
        segment(files, 1)[at[9]! + 41]! ^= 1;
        segment(files, 1)[at[19]! + 9]! ^= 1;
      }, mixed);
      const disk = plantFiles(files);
      const copy = salvageTo(disk);
      assert(sameFiles(takeFiles(disk), files), "the old log is untouched");
      assertEquals([copy.entryCount, copy.foundCount], [76, 0]);
      assertEquals(copy.ranges, [
        { firstIndex: 1, lastIndex: 9, newFirstIndex: 1 },
        { firstIndex: 11, lastIndex: 19, newFirstIndex: 10 },
        { firstIndex: 21, lastIndex: 78, newFirstIndex: 19 },
      ]);
      assertEquals(copy.gaps.map((gap) => gap.firstLostIndex), [10, 20]);
      assertEquals(contents(disk, NEW), contents(disk, LOG));
      const kept = flagsOf(mixed).filter((_, i) => i !== 9 && i !== 19);
      assertEquals(flagsOf(takeFiles(disk, NEW)), kept);
      using wal = openWalSync(NEW, { storage: disk });
      assertEquals(wal.recovery.outcome, "clean");
      assertEquals([wal.firstIndex, wal.lastIndex], [1, 76]);
      const report = JSON.parse(
        new TextDecoder().decode(disk.peek(`${NEW}/salvage.json`)!),
      );
      assertEquals([report.finished, report.from], [true, LOG]);
      assertEquals(report.gaps, copy.gaps);
      assertEquals(report.ranges[1], {
        oldFirstIndex: 11,
        oldLastIndex: 19,
        newFirstIndex: 10,
        newLastIndex: 18,
      });
    });
  }

  it("keeps the indexes where nothing is lost before them", () => {
    const files = makeLog((wal) => {
      append(wal, 100);
      wal.rotateSync();
      append(wal, 50);
      wal.truncateBeforeSync(101);
    });
    loseLink(segment(files, 2));
    const disk = plantFiles(files);
    const copy = salvageTo(disk);
    const range = { firstIndex: 101, lastIndex: 150, newFirstIndex: 101 };
    assertEquals(copy.ranges, [range]);
    using wal = openWalSync(NEW, { storage: disk });
    assertEquals([wal.firstIndex, wal.lastIndex], [101, 150]);
    assertEquals(wal.get(120).text(), "entry 120");
  });

  it("may be asked for again: what is there already is compared", () => {
    const { files } = CUTS[1]!;
    const disk = plantFiles(files);
    assertEquals(salvageTo(disk).foundCount, 0);
    const before = contents(disk, NEW);
    assertEquals(salvageTo(disk).foundCount, 147);
    assertEquals(contents(disk, NEW), before);
    {
      using wal = openWalSync(NEW, { storage: disk });
      wal.truncateAfterSync(50);
    }
    assertEquals(salvageTo(disk).foundCount, 50);
    assertEquals(contents(disk, NEW), before);
    {
      using wal = openWalSync(NEW, { storage: disk });
      wal.truncateAfterSync(50);
      wal.appendSync("something else");
    }
    const error = assertThrows(() => salvageTo(disk), StorageError);
    assertStringIncludes(error.message, "are not those of the damaged log");
  });

  it("refuses a folder with anything else in it", () => {
    const { files } = CUTS[1]!;
    const disk = plantFiles(files);
    openWalSync("other", { storage: disk }).closeSync();
    const other = takeFiles(disk, "other");
    for (const target of ["other", LOG]) {
      const error = assertThrows(() => salvageTo(disk, target), StorageError);
      assertEquals(error.systemCode, "ENOTEMPTY");
    }
    assert(sameFiles(takeFiles(disk, "other"), other), "nothing changes");
    assert(sameFiles(takeFiles(disk), files), "nothing changes");
  });

  it("needs the lock of the damaged log", () => {
    const disk = plantFiles(CUTS[1]!.files);
    const folder = openLogFolder(disk, LOG);
    const lock = folder.lock();
    assertThrows(() => salvageTo(disk), WalLockedError);
    lock.release();
    folder.close();
    assertEquals(salvageTo(disk).entryCount, 147);
  });

  it("needs the encoder of a format of the program's own", () => {
    const turned: Encoder = {
      name: "turned",
      byteLength: ({ data }) => data.length,
      encode: ({ data }) => data.slice().reverse(),
      encodeInto: () => 0,
      decode: (bytes) => ({
        index: 0,
        term: 0,
        timestampNs: 0n,
        transactionId: undefined,
        data: bytes.slice().reverse(),
        checksum: 0,
      }),
      decodeView: (bytes) => turned.decode(bytes),
    };
    const files = makeLog((wal) => append(wal, 20), { format: turned });
    segment(files, 1)[frameOffsets(segment(files, 1))[4]! + 41]! ^= 1;
    const disk = plantFiles(files);
    assertThrows(() => salvageTo(disk), UnsupportedFormatError);
    const parts = { storage: disk, source: LOG, target: NEW, encoder: turned };
    assertEquals(runBlocking(salvageInto(parts)).entryCount, 19);
    using log = openReaderSync(NEW, { storage: disk, format: turned });
    assertEquals(log.get(5).text(), "entry 6");
  });

  it("says so where nothing is left", () => {
    const disk = plantFiles(damaged((files) => {
      for (const number of [1, 2, 3]) files.delete(segmentFile(number));
    }));
    assertThrows(() => salvageTo(disk), WalCorruptedError);
    assertEquals(takeFiles(disk, NEW).size, 0);
  });

  it(
    "power cut at every call: it ends in the same",
    { timeout: 60_000 },
    () => {
      const files = damaged((files) => {
        const bytes = segment(files, 1);
        bytes[frameOffsets(bytes)[9]! + 41]! ^= 1;
      }, makeMixed());
      const whole = plantFiles(files);
      salvageTo(whole);
      const expected = contents(whole, NEW);
      let states = 0;
      for (let nth = 1;; nth++) {
        const disk = plantFiles(files, nth);
        const before = disk.callCount;
        disk.onCall(({ count }) => {
          if (count === before + nth) throw new CrashNow("here");
        });
        try {
          salvageTo(disk);
          break;
        } catch (error) {
          assert(disk.dead, String(error));
        }
        for (let i = 0; i < IMAGES; i++) {
          const image = whatIsLeft(disk, nth, i);
          states++;
          salvageTo(image);
          assertEquals(contents(image, NEW), expected, `call ${nth}`);
          assert(
            sameFiles(takeFiles(image), files),
            "the old log is untouched",
          );
        }
      }
      assertGreater(states, 50);
    },
  );

  it("runs without blocking, too", async () => {
    const disk = plantFiles(CUTS[1]!.files);
    const parts = { storage: disk, source: LOG, target: NEW };
    assertEquals((await runSoon(salvageInto(parts))).entryCount, 147);
  });
});
