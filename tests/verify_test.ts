/**
 * Verification: what is planted is found and named; what is sound is not
 * blamed; nothing is changed.
 *
 * @module
 */
import { test } from "node:test";
import { openWalSync, type Wal } from "../mod.ts";
import type { Finding } from "../src/finding.ts";
import { openLogFolder } from "../src/look.ts";
import { openStillLog } from "../src/still_log.ts";
import { verifyLog, type VerifyReport } from "../src/verify.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import {
  blockAt,
  copyFiles,
  expectAll,
  type Files,
  frameOffsets,
  getU32,
  judge,
  killedLog,
  LOG,
  loseLink,
  makeLog,
  plantFiles,
  sameFiles,
  sealBlock,
  sealFooter,
  sealManifest,
  segmentFile,
  setU32,
  setU64,
  takeFiles,
} from "./_log_bytes.ts";
import type { SimulatedStorage } from "../testing/mod.ts";

/** Bun ends a test after five seconds unless it is told otherwise. */
const SLOW = { timeout: 60_000 };

function verify(disk: SimulatedStorage): VerifyReport {
  const folder = openLogFolder(disk, LOG);
  try {
    const steps = verifyLog(folder);
    let done = 0;
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
      assert(step.value.bytesDone >= done, "progress goes on");
      done = step.value.bytesDone;
    }
  } finally {
    folder.close();
  }
}

/** Verifies a changed copy; checks that verifying changes nothing. */
function findings(
  files: Files,
  change: (files: Files) => void = () => {},
): readonly Finding[] {
  const changed = copyFiles(files);
  change(changed);
  const disk = plantFiles(changed);
  const found = verify(disk).findings;
  assert(sameFiles(takeFiles(disk), changed), "verify changes nothing");
  return found;
}

function onlyFinding(
  files: Files,
  change: (files: Files) => void,
): Finding {
  const found = findings(files, change);
  assertEquals(found.length, 1, JSON.stringify(found, undefined, 1));
  return found[0]!;
}

function segment(files: Files, number: number): Uint8Array<ArrayBuffer> {
  return files.get(segmentFile(number))!;
}

function append(wal: Wal, count: number): void {
  for (let i = 0; i < count; i++) {
    wal.appendSync(`entry ${wal.nextIndex}`, { durable: false });
  }
}

/** Entries 1 to 100, 101 to 103 as a batch, 104 to 150. */
const THREE: Files = makeLog((wal) => {
  append(wal, 100);
  wal.rotateSync();
  wal.appendBatchSync(["one", "two", "three"]);
  wal.rotateSync();
  append(wal, 47);
});

test("verify() finds nothing in sound logs", () => {
  const logs: [string, Files, number][] = [
    ["three segments", THREE, 150],
    ["no entry", makeLog(() => {}), 0],
    ["killed", killedLog((wal) => append(wal, 3000)), 3000],
    ["full segments", makeLog((wal) => append(wal, 3000)), 3000],
    ["json", makeLog((wal) => append(wal, 200), { format: "json" }), 200],
    [
      "truncated in a batch",
      makeLog((wal) => {
        append(wal, 70);
        wal.appendBatchSync(["a", "b", "c", "d"]);
        append(wal, 3000);
        wal.truncateAfterSync(72);
        append(wal, 10);
      }),
      82,
    ],
    [
      "emptied",
      makeLog((wal) => {
        append(wal, 2000);
        wal.truncateAfterSync(0);
        append(wal, 5);
      }),
      5,
    ],
    [
      "a segment of one large batch",
      makeLog((wal) => {
        append(wal, 5);
        wal.appendBatchSync([new Uint8Array(300_000), "small"]);
        append(wal, 5);
      }),
      12,
    ],
  ];
  for (const [name, files, entryCount] of logs) {
    const report = verify(plantFiles(files));
    assertEquals(report.findings, [], name);
    assertEquals(report.entryCount, entryCount, name);
    const { length } = expectAll(plantFiles(files));
    assertEquals(length, entryCount, name);
  }
});

test("verify() finds nothing in a log that was recovered and closed", () => {
  const disk = plantFiles(killedLog((wal) => append(wal, 500)));
  const wal = openWalSync(LOG, { storage: disk, segmentBytes: 65536 });
  assertEquals(verify(disk).findings, []);
  wal.closeSync();
  assertEquals(verify(disk).findings, []);
  openWalSync(LOG, { storage: disk }).closeSync();
  assertEquals(verify(disk).findings, []);
});

test("verify() names the entries that a damaged frame takes", () => {
  const offsets = frameOffsets(segment(THREE, 1));
  const path = `${LOG}/${segmentFile(1)}`;
  const payload = onlyFinding(THREE, (files) => {
    segment(files, 1)[offsets[41]! + 42]! ^= 1;
  });
  assertEquals(payload, {
    kind: "damage",
    segment: path,
    offset: offsets[41]!,
    firstLostIndex: 42,
    lastLostIndex: 42,
    message: "entry 42 is lost: found a frame with a wrong checksum, " +
      "expected a sound frame of entry 42",
  });
  const length = onlyFinding(THREE, (files) => {
    setU32(segment(files, 1), offsets[9]! + 4, 0x7fffffff);
  });
  assertEquals([length.firstLostIndex, length.lastLostIndex], [10, 10]);
  assertStringIncludes(length.message, "no frame header (its length would be");

  const zeros = onlyFinding(THREE, (files) => {
    segment(files, 1).fill(0, offsets[19]!, offsets[29]!);
  });
  assertEquals([zeros.firstLostIndex, zeros.lastLostIndex], [20, 29]);
  assertStringIncludes(zeros.message, "entries 20 to 29 are lost: found zeros");

  const two = findings(THREE, (files) => {
    segment(files, 1)[offsets[4]! + 8]! ^= 1;
    segment(files, 1)[offsets[6]! + 24]! ^= 1;
  });
  assertEquals(two.map((one) => one.firstLostIndex), [5, 7]);

  const end = onlyFinding(THREE, (files) => {
    segment(files, 1).fill(0, offsets[97]!, offsets[99]! + 60);
  });
  assertEquals([end.firstLostIndex, end.lastLostIndex], [98, 100]);
});

test("verify() names the batch that a lost entry belongs to", () => {
  const offsets = frameOffsets(segment(THREE, 2));
  const expected = ["101", "102", "103"].map((index, i) => {
    const batch = i === 0 ? "" : " in the batch that begins with entry 101";
    return `entries 101 to 103 are lost: found a frame with a wrong ` +
      `checksum, expected a sound frame of entry ${index}${batch}`;
  });
  for (let i = 0; i < 3; i++) {
    const found = onlyFinding(THREE, (files) => {
      segment(files, 2)[offsets[i]! + 40]! ^= 0x80;
    });
    assertEquals([found.kind, found.message], ["damage", expected[i]!]);
  }
});

test("verify() counts what is left", () => {
  const files = copyFiles(THREE);
  segment(files, 1).fill(0, 4096, 4096 + 1000);
  const { entryCount, findings } = verify(plantFiles(files));
  const { firstLostIndex, lastLostIndex } = findings[0]!;
  assertEquals(firstLostIndex, 1);
  assertEquals(entryCount, 150 - lastLostIndex);
});

test("verify() tells damage of the last segment after a close", () => {
  const offsets = frameOffsets(segment(THREE, 3));
  const found = onlyFinding(THREE, (files) => {
    segment(files, 3)[offsets[46]! + 41]! ^= 1;
  });
  assertEquals([found.kind, found.firstLostIndex], ["damage", 150]);
});

test("verify() tells a torn tail from damage", () => {
  const killed = killedLog((wal) => {
    append(wal, 20);
    wal.flushSync();
    append(wal, 5);
    // The marks of these vouch for the first 25.
    wal.flushSync();
    append(wal, 5);
  });
  const bytes = segment(killed, 1);
  const offsets = frameOffsets(bytes);
  const torn = onlyFinding(killed, (files) => {
    segment(files, 1).fill(0, offsets[27]!, offsets[28]!);
  });
  assertEquals(torn.kind, "torn");
  assertEquals(torn.offset, offsets[27]!);
  assertStringIncludes(torn.message, "bytes behind entry 27 are an unfinished");
  const damage = onlyFinding(killed, (files) => {
    segment(files, 1).fill(0, offsets[21]!, offsets[22]!);
  });
  assertEquals([damage.kind, damage.firstLostIndex], ["damage", 22]);
  assertEquals(damage.lastLostIndex, 22);
});

test("verify() finds wrong index blocks, and that no entry is lost", () => {
  const lost = (found: Finding) => [
    found.kind,
    found.firstLostIndex,
    found.lastLostIndex,
  ];
  const at = blockAt(segment(THREE, 1), 1);
  const checksum = onlyFinding(THREE, (files) => {
    segment(files, 1)[at + 30]! ^= 1;
  });
  assertEquals(lost(checksum), ["index", 0, 0]);
  assertEquals(checksum.offset, at);
  assertStringIncludes(checksum.message, "index block 1 has a wrong checksum");

  const offset = onlyFinding(THREE, (files) => {
    const bytes = segment(files, 1);
    setU32(bytes, at + 24, getU32(bytes, at + 28));
    sealBlock(bytes, 1);
  });
  assertEquals(lost(offset), ["index", 0, 0]);
  assertStringIncludes(offset.message, "names offset");

  const term = onlyFinding(THREE, (files) => {
    setU64(segment(files, 1), at + 16, 9);
    sealBlock(segment(files, 1), 1);
  });
  assertStringIncludes(term.message, "has a wrong greatest time or term");

  const many = onlyFinding(THREE, (files) => {
    segment(files, 1).fill(0, at, at + 560);
  });
  assertStringIncludes(many.message, "2 of 2 blocks are wrong");

  const last = onlyFinding(THREE, (files) => {
    const bytes = segment(files, 3);
    bytes[blockAt(bytes, 0) + 24]! ^= 8;
  });
  assertEquals(lost(last), ["index", 0, 0]);
});

test("verify() checks blocks behind a damaged frame by themselves", () => {
  const found = findings(THREE, (files) => {
    const bytes = segment(files, 1);
    bytes[frameOffsets(bytes)[3]! + 40]! ^= 1;
    bytes[blockAt(bytes, 1) + 40]! ^= 1;
  });
  assertEquals(found.map(({ kind }) => kind), ["damage", "index"]);
  assertStringIncludes(found[1]!.message, "index block 1");
});

test("verify() finds a wrong footer and a wrong spare header", () => {
  const footer = onlyFinding(THREE, (files) => {
    segment(files, 2)[65536 - 40]! ^= 1;
  });
  assertEquals([footer.kind, footer.offset], ["index", 65536 - 64]);
  assertStringIncludes(footer.message, "the footer is missing or damaged");
  const lying = onlyFinding(THREE, (files) => {
    setU64(segment(files, 2), 65536 - 64 + 16, 102);
    sealFooter(segment(files, 2));
  });
  assertStringIncludes(lying.message, "names entries 101 to 102");
  const spares = [
    ["identity", 30, 30],
    ["identity", 3968 + 30, 30],
    ["link", 128 + 30, 128 + 30],
    ["link", 3840 + 30, 128 + 30],
  ] as const;
  for (const [what, at, offset] of spares) {
    for (const number of [1, 2, 3]) {
      const header = onlyFinding(THREE, (files) => {
        segment(files, number)[at]! ^= 1;
      });
      assertEquals([header.kind, header.offset], ["index", offset]);
      assertStringIncludes(header.message, `the two ${what} records differ`);
    }
  }
  const sector = findings(THREE, (files) => segment(files, 2).fill(0, 0, 512));
  assertEquals(sector.map(({ kind }) => kind), ["index", "index"]);
  assertEquals(sector.map(({ offset }) => offset), [0, 128]);
});

test("verify() finds what keeps the chain from being built", () => {
  const manifestPath = `${LOG}/manifest`;
  const cases: [string, string, (files: Files) => void][] = [
    [
      "is damaged: its size, its checksum or a field is wrong",
      manifestPath,
      (files) => files.get("manifest")![70]! ^= 1,
    ],
    [
      "no entry is lost: is missing though there are segments",
      manifestPath,
      (files) => files.delete("manifest"),
    ],
    [
      "has a damaged header",
      `${LOG}/${segmentFile(2)}`,
      (files) => loseLink(segment(files, 2)),
    ],
    [
      "is missing, expected it between its neighbours",
      `${LOG}/${segmentFile(2)}`,
      (files) => files.delete(segmentFile(2)),
    ],
    [
      "bytes, expected 65536 bytes",
      `${LOG}/${segmentFile(1)}`,
      (files) => files.set(segmentFile(1), segment(files, 1).slice(0, 61440)),
    ],
  ];
  for (const [message, path, change] of cases) {
    const found = onlyFinding(THREE, change);
    assertEquals([found.kind, found.segment], ["damage", path]);
    assertStringIncludes(found.message, message);
    assert(!found.message.startsWith("Cannot"), found.message);
  }
});

test("verify() finds a manifest that contradicts the segments", () => {
  const cases: [number, number, string][] = [
    [72, 2, "expected"],
    [96, 200, "entries 151 to 199 are lost: found the end of the frames"],
    [96, 140, "no entry is lost: found entry 150, expected 139 as the last"],
  ];
  for (const [at, value, message] of cases) {
    const found = findings(THREE, (files) => {
      const manifest = files.get("manifest")!;
      setU64(manifest, at, value);
      sealManifest(manifest);
    });
    assertGreater(found.length, 0, `${at}: ${value}`);
    assertEquals(found[0]!.kind, "damage");
    assertStringIncludes(found[0]!.message, message);
  }
  // A manifest that says less than the frames do is only an old one.
  const old = findings(THREE, (files) => {
    setU32(files.get("manifest")!, 120, 0);
    sealManifest(files.get("manifest")!);
  });
  assertEquals(old, []);
});

test(
  "verify() agrees with opening and reading about flipped bytes",
  SLOW,
  () => {
    const expected = expectAll(plantFiles(THREE));
    const ranges = [...THREE].flatMap(([name, bytes]) => {
      if (name === "manifest") return [{ name, from: 0, to: bytes.length }];
      const frames = frameOffsets(bytes);
      const end = frames.at(-1)! + 64;
      return [
        { name, from: 0, to: 256 },
        { name, from: 4096, to: end },
        { name, from: blockAt(bytes, 1), to: bytes.length },
      ];
    });
    let damaged = 0;
    for (const { name, from, to } of ranges) {
      for (let at = from; at < to; at += 17) {
        const files = copyFiles(THREE);
        files.get(name)![at]! ^= 1 << (at % 8);
        let found: readonly Finding[];
        try {
          found = verify(plantFiles(files)).findings;
        } catch {
          // A header of another version: both must say so.
          assertEquals(judge(plantFiles(files), expected).kind, "refused");
          continue;
        }
        const outcome = judge(plantFiles(files), expected);
        const where = `${name} ${at}: ${JSON.stringify(outcome)}, ` +
          JSON.stringify(found);
        const loses = found.some((one) => one.firstLostIndex > 0);
        if (outcome.kind === "right") assert(!loses, where);
        else {
          damaged++;
          assert(found.some(({ kind }) => kind === "damage"), where);
        }
      }
    }
    assertGreater(damaged, 100);
  },
);

test("verify() refuses what is no log", () => {
  const disk = plantFiles(new Map());
  const folder = openLogFolder(disk, LOG);
  assertThrows(() => [...verifyLog(folder)], Error, "there is no manifest");
  folder.close();
  assertThrows(() => openLogFolder(disk, "nowhere"), Error, "nothing is there");
});

test("StillLog shows what recovery would keep, and changes nothing", () => {
  const killed = killedLog((wal) => append(wal, 2000));
  const bytes = segment(killed, 1);
  for (const cut of [false, true]) {
    const files = copyFiles(killed);
    const last = [...files.keys()].filter((name) => name.endsWith(".wal"))
      .pop()!;
    const tail = files.get(last)!;
    const offsets = frameOffsets(tail);
    // Entries that no mark vouches for: the last one but two is gone.
    if (cut) tail.fill(0, offsets.at(-3)!, offsets.at(-2)!);
    const disk = plantFiles(files);
    const still = openStillLog(disk, LOG);
    assertEquals(still.recovery.outcome, cut ? "torn" : "clean");
    const entries = [...still].map((entry) => entry.text());
    still.closeSync();
    assertEquals(still.state, "closed");
    assert(sameFiles(takeFiles(disk), files), "looking changes nothing");
    using wal = openWalSync(LOG, { storage: disk });
    assertEquals([...wal].map((entry) => entry.text()), entries);
    assertEquals(wal.length, cut ? 1997 : 2000);
  }
  assertEquals(bytes.length, 65536);
});

test("StillLog follows a writer that never rests", SLOW, () => {
  const disk = plantFiles(makeLog(() => {}));
  using wal = openWalSync(LOG, { storage: disk, segmentBytes: 65536 });
  for (let i = 0; i < 200; i++) {
    append(wal, 7 * (i % 9));
    if (i % 5 === 0) wal.flushSync();
    const still = openStillLog(disk, LOG);
    assertEquals(still.lastIndex, wal.lastIndex);
    if (still.length > 0) {
      assertEquals(still.get(still.lastIndex).text(), `entry ${wal.lastIndex}`);
    }
    still.closeSync();
    const report = verify(disk);
    assertEquals(report.findings, []);
    assertEquals(report.entryCount, wal.length);
  }
});
