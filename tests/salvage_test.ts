/**
 * Salvage: of a damaged log every sound entry is served, lost ranges are
 * named, nothing wrong is served, and nothing changes on the disk.
 *
 * @module
 */
import { describe, it } from "node:test";
import {
  IndexOutOfRangeError,
  openReader,
  openReaderSync,
  openWalSync,
  type Wal,
  WalCorruptedError,
  type WalReader,
} from "../mod.ts";
import { Random } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import {
  blockAt,
  copyFiles,
  type Files,
  frameOffsets,
  killedLog,
  LOG,
  loseLink,
  makeLog,
  plantFiles,
  quietDisk,
  sameFiles,
  sealIdentity,
  segmentFile,
  setU32,
  setU64,
  takeFiles,
} from "./_log_bytes.ts";
import { mapEntries, touched } from "./_log_map.ts";
import { hurt, judgeSalvage, makeSubject, walNames } from "./_salvage_cases.ts";
import { listFiles, onEach, putBytes, readBytes } from "./_wal.ts";

const USUAL_SEED = 1;
const SEED = seedOf(USUAL_SEED);
/** Damaged logs: some of each of so many logs. */
const LOGS = budgetOf({ smoke: 40, long: 4000 });
const CASES = 12;
/** Bun ends a test after five seconds unless it is told otherwise. */
const SLOW = { timeout: 300_000 };

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

/** Opens a changed copy; checks that nothing but reading happens to it. */
function salvage(
  files: Files,
  change: (files: Files) => void = () => {},
): WalReader & { [Symbol.dispose](): void } {
  const changed = copyFiles(files);
  change(changed);
  const storage = plantFiles(changed);
  const reader = openReaderSync(LOG, { storage, recovery: "salvage" });
  assert(sameFiles(takeFiles(storage), changed), "salvage changes nothing");
  return reader;
}

/** The indexes that are served; checks that gaps are the rest, and throw. */
function served(reader: WalReader): number[] {
  const { gaps } = reader.recovery;
  const found: number[] = [];
  let lost = 0;
  const first = Math.min(
    gaps[0]?.firstLostIndex ?? Infinity,
    reader.firstIndex || reader.nextIndex,
  );
  for (let index = first; index < reader.nextIndex; index++) {
    const gap = gaps.find((one) =>
      one.firstLostIndex <= index && index <= one.lastLostIndex
    );
    if (gap === undefined) {
      assertEquals(reader.get(index).text(), `entry ${index}`);
      found.push(index);
      continue;
    }
    lost++;
    for (const call of [() => reader.get(index), () => reader.at(index)]) {
      const error = assertThrows(call, WalCorruptedError);
      const { segment, offset, firstLostIndex, lastLostIndex } = error;
      assertEquals({ segment, offset, firstLostIndex, lastLostIndex }, gap);
      assertStringIncludes(error.message, `Cannot read entry ${index}`);
    }
  }
  assertEquals([reader.length, reader.recovery.entryCount], [
    found.length,
    found.length,
  ]);
  const total = gaps.reduce(
    (sum, one) => sum + one.lastLostIndex - one.firstLostIndex + 1,
    0,
  );
  assertEquals(total, lost);
  return found;
}

/** Whole numbers from `first` to `last` but for those in `lost`. */
function range(first: number, last: number, ...lost: [number, number][]) {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
    .filter((index) => !lost.some(([a, b]) => a <= index && index <= b));
}

/** What is lost of `THREE`, and where. */
function losses(
  change: (files: Files) => void,
  files: Files = THREE,
): [string, number, number, number][] {
  using reader = salvage(files, change);
  served(reader);
  return reader.recovery.gaps.map((gap) => [
    gap.segment.slice(-6, -4),
    gap.offset,
    gap.firstLostIndex,
    gap.lastLostIndex,
  ]);
}

describe('openReader({ recovery: "salvage" })', () => {
  it("opens a sound log as any other", () => {
    using reader = salvage(THREE);
    assertEquals(served(reader), range(1, 150));
    const { outcome, gaps, segmentsScanned } = reader.recovery;
    assertEquals([outcome, gaps, segmentsScanned], ["clean", [], 3]);
    assertEquals(reader.durableIndex, 150);
    using empty = salvage(makeLog(() => {}));
    assertEquals([empty.length, empty.recovery.outcome], [0, "clean"]);
    using killed = salvage(killedLog((wal) => append(wal, 3000)));
    assertEquals([killed.length, killed.recovery.outcome], [3000, "clean"]);
    assertEquals(killed.durableIndex, 0);
  });

  it("reads up to a gap, throws at it, and reads on behind it", () => {
    const offset = frameOffsets(segment(THREE, 1))[41]!;
    using reader = salvage(THREE, (files) => {
      segment(files, 1)[offset + 42]! ^= 1;
    });
    assertEquals(served(reader), range(1, 150, [42, 42]));
    const { outcome, gaps, entryCount } = reader.recovery;
    assertEquals([outcome, entryCount, reader.length], ["salvaged", 149, 149]);
    const path = `${LOG}/${segmentFile(1)}`;
    const gap = {
      segment: path,
      offset,
      firstLostIndex: 42,
      lastLostIndex: 42,
    };
    assertEquals(gaps, [gap]);
    const before: number[] = [];
    const error = assertThrows(() => {
      for (const { index } of reader) before.push(index);
    }, WalCorruptedError);
    assertEquals(before, range(1, 41));
    assertStringIncludes(error.message, "go on from entry 43");
    const behind = [...reader.entries({ from: 43 })].map(({ index }) => index);
    assertEquals(behind, range(43, 150));
    const back: number[] = [];
    assertThrows(() => {
      for (const one of reader.entries({ reverse: true })) back.push(one.index);
    }, WalCorruptedError);
    assertEquals(back, range(43, 150).reverse());
    assertEquals(reader.getRange(1, 41).length, 41);
    assertEquals(reader.getRange(43, 999).length, 108);
    assertThrows(() => reader.getRange(40, 44), WalCorruptedError);
    assertThrows(() => reader.get(151), IndexOutOfRangeError);
    assertEquals([reader.firstIndex, reader.lastIndex], [1, 150]);
    assertEquals(reader.segments().length, 3);
  });

  it("a batch of which one frame is lost is lost as a whole", () => {
    const offsets = frameOffsets(segment(THREE, 2));
    for (const [i, at] of offsets.slice(0, 3).entries()) {
      for (const where of [0, 4, 8, 16, 17, 18, 20, 24, 32, 40]) {
        const found = losses((files) => segment(files, 2)[at + where]! ^= 4);
        assertEquals(found, [["02", offsets[i]!, 101, 103]], `${i} ${where}`);
      }
    }
  });

  it("one wrong bit costs its batch, and not the one behind it", SLOW, () => {
    const files = makeLog((wal) => {
      append(wal, 2);
      wal.appendBatchSync(["entry 3", "entry 4"]);
      append(wal, 1);
      wal.appendBatchSync(["entry 6", "entry 7"]);
      wal.appendBatchSync(["entry 8", "entry 9"]);
    });
    const places = mapEntries(files);
    for (const { from, to } of places) {
      for (let at = from; at < to; at++) {
        for (let bit = 0; bit < 8; bit++) {
          const flip = (files: Files) => segment(files, 1)[at]! ^= 1 << bit;
          const lost = [...touched(places, segmentFile(1), at, at + 1)];
          const [first] = lost;
          assertEquals(
            losses(flip, files).map((gap) => gap.slice(2)),
            [[first!, first! + lost.length - 1]],
            `bit ${bit} of byte ${at}`,
          );
        }
      }
    }
  });

  it("zeroed sectors and garbage cost what they touch", SLOW, () => {
    for (const number of [1, 2, 3]) {
      for (let at = 4096; at < 4096 + 4096; at += 512) {
        const places = mapEntries(THREE);
        for (const bytes of [512, 4096]) {
          for (const fill of [0, 0xa5]) {
            const name = segmentFile(number);
            const lost = touched(places, name, at, at + bytes);
            const found = losses((files) =>
              segment(files, number).fill(fill, at, at + bytes)
            );
            const gone = found.flatMap(([, , a, b]) => range(a, b));
            assertEquals(gone, [...lost], `${number} ${at} ${bytes} ${fill}`);
          }
        }
      }
    }
  });

  it("a segment that is missing costs its entries", () => {
    const gone = (number: number) => (files: Files) =>
      void files.delete(segmentFile(number));
    assertEquals(losses(gone(1)), [["01", 0, 1, 100]]);
    assertEquals(losses(gone(2)), [["02", 0, 101, 103]]);
    assertEquals(losses(gone(3)), [["03", 0, 104, 150]]);
    const two = losses((files) => {
      gone(2)(files);
      gone(3)(files);
    });
    assertEquals(two, [["03", 0, 101, 150]]);
    const all = losses((files) => [1, 2, 3].forEach((n) => gone(n)(files)));
    assertEquals(all.map((gap) => gap.slice(2)), [[1, 150]]);
  });

  it(
    "a lost header costs nothing: its neighbours and its frames tell",
    SLOW,
    () => {
      const changes: ((bytes: Uint8Array<ArrayBuffer>) => unknown)[] = [
        (bytes) => bytes[8]! ^= 1, // the identity alone; it has a copy
        (bytes) => bytes[130]! ^= 1, // the link alone; it has a copy
        (bytes) => bytes.fill(0, 0, 512),
        (bytes) => bytes.fill(0, 3584, 4096),
        (bytes) => loseLink(bytes),
        (bytes) => [40, 4008].forEach((at) => bytes[at]! ^= 1),
        (bytes) => bytes.fill(0, 0, 4096),
        (bytes) => bytes.fill(0x77, 0, 4096),
      ];
      for (const numbers of [[1], [2], [3], [1, 2], [2, 3], [1, 2, 3]]) {
        for (const [i, change] of changes.entries()) {
          using reader = salvage(THREE, (files) => {
            for (const number of numbers) change(segment(files, number));
          });
          assertEquals(served(reader), range(1, 150), `${numbers} ${i}`);
          const outcome = i < 4 ? "clean" : "salvaged";
          assertEquals(reader.recovery.outcome, outcome);
        }
      }
    },
  );

  it("a lost header and first frames cost those frames", () => {
    const change = (number: number) => (files: Files) =>
      void segment(files, number).fill(0, 0, 4096 + 512);
    assertEquals(losses(change(1)), [["01", 0, 1, 11]]);
    assertEquals(losses(change(3)), [["03", 0, 104, 113]]);
    const end = segment(THREE, 3).length;
    const footer = losses((files) => {
      change(2)(files);
      segment(files, 2).fill(0, end - 64, end);
    });
    assertEquals(footer, [["02", 0, 101, 103]]);
  });

  it("a damaged or missing manifest costs nothing", () => {
    for (const bytes of [0, 1, 255, 257]) {
      const change = (files: Files) => {
        files.set("manifest", new Uint8Array(bytes));
      };
      assertEquals(losses(change), []);
    }
    using reader = salvage(THREE, (files) => files.delete("manifest"));
    assertEquals(served(reader), range(1, 150));
    assertEquals(reader.recovery.outcome, "salvaged");
    using json = salvage(
      makeLog((wal) => append(wal, 5), { format: "json" }),
      (files) => files.get("manifest")![40]! ^= 1,
    );
    assertEquals(served(json), range(1, 5));
  });

  it("without a manifest a lost last segment shows by its predecessor", () => {
    const found = losses((files) => {
      files.delete("manifest");
      files.delete(segmentFile(3));
    });
    assertEquals(found.map((gap) => gap.slice(2)), [[104, 104]]);
  });

  it("without a manifest zeros before a known end are a gap", () => {
    const at = frameOffsets(segment(THREE, 1))[98]!;
    const found = losses((files) => {
      files.delete("manifest");
      segment(files, 1).fill(0, at, at + 120);
    });
    assertEquals(found, [["01", at, 99, 100]]);
  });

  it("damaged index blocks and footers cost nothing", () => {
    const change = (files: Files) => {
      for (const number of [1, 2, 3]) {
        const bytes = segment(files, number);
        bytes.fill(0x55, blockAt(bytes, 1), bytes.length);
      }
    };
    using reader = salvage(THREE, change);
    assertEquals(served(reader), range(1, 150));
    assertEquals(reader.recovery.outcome, "clean");
    const both = losses((files) => {
      change(files);
      segment(files, 1)[4096 + 20]! ^= 1;
      loseLink(segment(files, 2));
    });
    assertEquals(both, [["01", 4096, 1, 1]]);
  });

  it("a manifest that was put back from an older copy hides nothing", () => {
    const files = makeLog((wal, disk) => {
      append(wal, 20);
      wal.closeSync();
      const old = disk.peek(`${LOG}/manifest`)!;
      const again = openWalSync(LOG, { storage: disk });
      append(again, 10);
      again.closeSync();
      disk.plant(`${LOG}/manifest`, old);
    });
    assertEquals(losses(() => {}, files), []);
    const offsets = frameOffsets(segment(files, 1));
    const lost = losses((files) => segment(files, 1)[offsets[4]!]! ^= 1, files);
    assertEquals(lost.map((gap) => gap.slice(2)), [[5, 5]]);
    using reader = salvage(files, (files) => loseLink(segment(files, 1)));
    assertEquals(served(reader), range(1, 30));
  });

  it("a shortened file is read to its end", () => {
    const offset = frameOffsets(segment(THREE, 1))[50]!;
    const found = losses((files) => {
      files.set(segmentFile(1), segment(files, 1).slice(0, offset + 4));
    });
    assertEquals(found, [["01", offset, 51, 100]]);
    const none = losses((files) => {
      files.set(segmentFile(3), new Uint8Array(0));
    });
    assertEquals(none, [["03", 0, 104, 150]]);
  });

  it("several holes are several gaps", () => {
    const one = frameOffsets(segment(THREE, 1));
    const three = frameOffsets(segment(THREE, 3));
    const found = losses((files) => {
      segment(files, 1)[one[4]! + 8]! ^= 1;
      segment(files, 1)[one[6]! + 24]! ^= 1;
      segment(files, 1).fill(0, one[98]!, one[98]! + 200);
      segment(files, 3)[three[46]! + 41]! ^= 1;
    });
    assertEquals(found, [
      ["01", one[4]!, 5, 5],
      ["01", one[6]!, 7, 7],
      ["01", one[98]!, 99, 100],
      ["03", three[46]!, 150, 150],
    ]);
  });

  it("a tail that cannot be decided is a gap of at least one entry", () => {
    const files = killedLog((wal) => {
      append(wal, 10);
      wal.flushSync();
      append(wal, 3);
    });
    const found = losses((files) => {
      const bytes = segment(files, 1);
      const end = frameOffsets(bytes).at(-1)! + 48;
      for (let at = end + 8; at + 128 < bytes.length - 400; at += 40) {
        setU32(bytes, at + 4, bytes.length - 400 - at);
        setU64(bytes, at + 8, 14);
        setU32(bytes, at + 16, 0xffff0001);
      }
    }, files);
    assertEquals(found.map((gap) => gap.slice(2)), [[14, 14]]);
  });

  it("files that are another segment, or another log's, are left out", () => {
    const other = makeLog((wal) => append(wal, 20), {}, 99);
    const found = losses((files) => {
      files.set(segmentFile(2), segment(other, 1));
    });
    assertEquals(found, [["02", 0, 101, 103]]);
    const swapped = losses((files) => {
      const one = segment(files, 1);
      files.set(segmentFile(1), segment(files, 3));
      files.set(segmentFile(3), one);
    });
    assertEquals(swapped, []);
    const twice = losses((files) => {
      files.set(segmentFile(2), segment(files, 1).slice());
    });
    assertEquals(twice, [["02", 0, 101, 103]]);
    // One of the same number and another salt: a copy that went its own way.
    const stale = losses((files) => {
      const bytes = segment(files, 2);
      setU32(bytes, 40, 12345);
      sealIdentity(bytes);
    });
    assertEquals(stale, [["02", 0, 101, 103]]);
  });

  it("entries that were truncated away do not come back", () => {
    const files = makeLog((wal) => {
      append(wal, 60);
      wal.truncateAfterSync(40);
      append(wal, 20);
    });
    assert(files.has(segmentFile(2)));
    const link = losses((files) => loseLink(segment(files, 2)), files);
    assertEquals(link, []);
    using reader = salvage(files, (files) => files.delete(segmentFile(2)));
    const { gaps } = reader.recovery;
    assertEquals(gaps.at(-1)!.lastLostIndex, 60);
    assert(gaps[0]!.firstLostIndex <= 41, JSON.stringify(gaps));
    served(reader);
  });

  it("refuses what nothing can be told of", () => {
    const blank = new Map([...copyFiles(THREE)].map(([name, bytes]) => {
      return [name, bytes.fill(0)] as const;
    }));
    const storage = plantFiles(blank);
    assertThrows(
      () => openReaderSync(LOG, { storage, recovery: "salvage" }),
      WalCorruptedError,
    );
  });

  it("without it the same logs are refused, or the same reads", () => {
    const offset = frameOffsets(segment(THREE, 3))[3]!;
    const refused: ((files: Files) => unknown)[] = [
      (files) => files.delete("manifest"),
      (files) => files.delete(segmentFile(1)),
      (files) => files.delete(segmentFile(2)),
      (files) => files.delete(segmentFile(3)),
      (files) => loseLink(segment(files, 2)),
      (files) => segment(files, 1).fill(0, 0, 4096),
    ];
    for (const change of refused) {
      const files = copyFiles(THREE);
      change(files);
      const storage = plantFiles(files);
      assertThrows(() => openReaderSync(LOG, { storage }), WalCorruptedError);
      assertThrows(() => openWalSync(LOG, { storage }), WalCorruptedError);
      assert(sameFiles(takeFiles(storage), files), "nothing changes");
    }
    const files = copyFiles(THREE);
    segment(files, 3)[offset + 40]! ^= 1;
    using reader = openReaderSync(LOG, { storage: plantFiles(files) });
    assertEquals(reader.recovery.gaps, []);
    assertThrows(() => reader.get(107));
  });

  it("finds no gap beside a writer that appends at every read", () => {
    const disk = quietDisk();
    using wal = openWalSync(LOG, { storage: disk, segmentBytes: 65536 });
    append(wal, 30);
    for (let nth = 1; nth < 60; nth++) {
      let reads = 0;
      disk.onCall(({ operation }) => {
        if (operation !== "read" || ++reads !== nth) return;
        append(wal, 3);
        if (nth % 3 === 0) wal.flushSync();
        if (nth % 20 === 0) wal.rotateSync();
      });
      const before = wal.lastIndex;
      using reader = openReaderSync(LOG, {
        storage: disk,
        recovery: "salvage",
      });
      disk.onCall(undefined);
      assertEquals(reader.recovery.gaps, [], `read ${nth}`);
      const found = served(reader);
      assert(found.length >= before && found.length <= wal.lastIndex);
    }
  });

  it("tells the logger of each damage", () => {
    const files = copyFiles(THREE);
    segment(files, 1)[4096 + 20]! ^= 1;
    files.delete(segmentFile(2));
    const told: string[] = [];
    const warn = (message: string) => void told.push(message);
    const none = () => {};
    openReaderSync(LOG, {
      storage: plantFiles(files),
      recovery: "salvage",
      logger: { debug: none, info: none, warn, error: none },
    }).closeSync();
    assertEquals(told.length, 2);
    assertStringIncludes(told[0]!, "entry 1 is lost");
    assertStringIncludes(told[1]!, "entries 101 to 103 are lost: is missing");
  });

  onEach("works on every storage", async (place) => {
    const wal = await place.open();
    for (let i = 1; i <= 300; i++) {
      await wal.append({ data: `entry ${i}`, term: i }, { durable: false });
      if (i % 100 === 0) await wal.rotate();
    }
    await wal.close();
    place.sound = false;
    const name = segmentFile(2);
    const bytes = readBytes(place, name);
    bytes.fill(0, 4096 + 512, 4096 + 1024);
    bytes.fill(0, bytes.length - 1000);
    putBytes(place, name, bytes);
    const before = listFiles(place);
    const { storage, path } = place;
    const options = { storage, recovery: "salvage" } as const;
    using reader = openReaderSync(path, options);
    await using soon = await openReader(path, options);
    assertEquals(soon.recovery.gaps, reader.recovery.gaps);
    const [gap] = reader.recovery.gaps;
    assertEquals(served(soon), served(reader));
    assertEquals(served(reader), [
      ...range(1, gap!.firstLostIndex - 1),
      ...range(gap!.lastLostIndex + 1, 300),
    ]);
    assert(gap!.firstLostIndex > 100 && gap!.lastLostIndex < 130);
    assertEquals(reader.get(299).term, 299);
    assertEquals(listFiles(place), before);
    assertEquals(wal.state, "closed");
  });
});

describe("salvage of random damage", () => {
  it("serves nothing wrong, whole batches, and all that is sound", SLOW, () => {
    const counts = { cases: 0, served: 0, lost: 0, untouched: 0, blind: 0 };
    for (let i = 0; i < LOGS; i++) {
      const seed = SEED + i;
      const random = new Random(seed);
      const subject = makeSubject(random, seed);
      const last = walNames(subject.files).at(-1)!;
      for (let nth = 0; nth < CASES; nth++) {
        const files = copyFiles(subject.files);
        const damage = hurt(random, subject, files);
        // Nothing then says that there was a later segment, or where it cut.
        const tail = files.get(last);
        const headless = tail === undefined || tail[0] === 0;
        if (damage.manifest && headless) {
          counts.blind++;
          continue;
        }
        const storage = plantFiles(files);
        const more = `WALRUS_BUDGET=1`;
        const story = `log ${seed}, case ${nth} [${damage.what.join(", ")}]; ` +
          replay("tests/salvage_test.ts", USUAL_SEED, more)
            .replace(`WALRUS_SEED=${SEED}`, `WALRUS_SEED=${seed}`);
        try {
          using log = openReaderSync(LOG, { storage, recovery: "salvage" });
          counts.untouched += judgeSalvage(log, subject, damage);
          counts.served += log.length;
          counts.cases++;
          counts.lost += subject.truth.size - log.length;
        } catch (error) {
          throw new Error(story, { cause: error });
        }
        assert(sameFiles(takeFiles(storage), files), story);
      }
    }
    console.log(`salvage, seed ${SEED}: ${JSON.stringify(counts)}`);
    assertGreater(counts.served, counts.lost);
    assertGreater(counts.cases, 10 * counts.blind);
  });
});
