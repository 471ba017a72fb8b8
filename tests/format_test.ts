/**
 * Holds docs/format.md against the code: its tables against the constants,
 * its example against the bytes, its sentences against whole logs on a
 * simulated disk. Rules of single records are tested beside their codec.
 */
import { describe, it } from "node:test";
import { existsSync, readFileSync } from "node:fs";
import { openWalSync, type Wal, WalCorruptedError } from "../mod.ts";
import { type ChainSegment, clampToChain } from "../src/chain.ts";
import { crc32 } from "../src/crc32.ts";
import { UnsupportedFormatError, WalError } from "../src/errors.ts";
import * as FORMAT from "../src/format.ts";
import { assert, assertEquals, assertThrows } from "./_assert.ts";
import {
  blockAt,
  type Bytes,
  checksum,
  copyFiles,
  EXAMPLE_ENTRIES,
  exampleSegment,
  type Files,
  frameOffsets,
  getU32,
  getU64,
  hexdump,
  killedLog,
  LOG,
  loseLink,
  makeLog,
  plantFiles,
  quietDisk,
  saltOf,
  sameFiles,
  sealFrame,
  sealIdentity,
  sealLink,
  sealManifest,
  segmentFile,
  setU32,
  setU64,
  takeFiles,
} from "./_log_bytes.ts";
import { CrashNow, Random, type SimulatedStorage } from "../testing/mod.ts";
import { assertVerified } from "./_wal.ts";

const DOCUMENT = new URL("../docs/format.md", import.meta.url);
const text = readFileSync(DOCUMENT, "utf8");

/** The rows of a table, from the line after `start`. */
function tableAfter(start: string): string[][] {
  const from = text.indexOf(start);
  assert(from >= 0, `the document has "${start}"`);
  const lines = text.slice(from + start.length).trimStart().split("\n");
  const end = lines.findIndex((line) => !line.startsWith("|"));
  return lines.slice(2, end < 0 ? undefined : end)
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
}

function open(disk: SimulatedStorage, strict = false): Wal {
  const recovery = strict ? "strict" as const : "tail" as const;
  return openWalSync(LOG, { storage: disk, segmentBytes: 65536, recovery });
}

function texts(disk: SimulatedStorage): string[] {
  const wal = open(disk);
  const found = [...wal].map((entry) => entry.text());
  wal.closeSync();
  return found;
}

/** A number of entries that only say their index. */
function append(wal: Wal, count: number): void {
  for (let i = 0; i < count; i++) wal.appendSync(`e${wal.nextIndex}`);
}

function names(count: number): string[] {
  return Array.from({ length: count }, (_, i) => `e${i + 1}`);
}

/** Not synced: what a power cut may take. */
function appendUnsynced(wal: Wal, count: number): void {
  for (let i = 0; i < count; i++) {
    wal.append(`e${wal.nextIndex}`, { durable: false });
  }
}

function manifestOf(files: Files): Bytes {
  return files.get("manifest")!;
}

describe("format: the document", () => {
  const tables: [string, Record<string, number>, number][] = [
    ["IDENTITY 128", FORMAT.IDENTITY, FORMAT.IDENTITY_BYTES],
    ["LINK 128", FORMAT.LINK, FORMAT.LINK_BYTES],
    ["FRAME 40", FORMAT.FRAME, FORMAT.FRAME_HEADER_BYTES],
    ["BLOCK 280", FORMAT.BLOCK, FORMAT.BLOCK_BYTES],
    ["FOOTER 64", FORMAT.FOOTER, FORMAT.FOOTER_BYTES],
    ["MANIFEST 256", FORMAT.MANIFEST, FORMAT.MANIFEST_BYTES],
    ["CONSUMER 64", FORMAT.CONSUMER, FORMAT.CONSUMER_RECORD_BYTES],
  ];
  for (const [title, constants, bytes] of tables) {
    it(`the table ${title} is the code's, without a gap`, () => {
      const rows = tableAfter(`<!-- table: ${title} -->`);
      const found: Record<string, number> = {};
      let end = 0;
      for (const [offset, size, field] of rows) {
        assertEquals(Number(offset), end, `${field} begins where one ended`);
        end += Number(size);
        found[field!.replaceAll("`", "")] = Number(offset);
      }
      assertEquals(end, bytes);
      if (title.startsWith("FRAME")) found.payload = end;
      assertEquals(found, constants as Record<string, number>);
    });
  }

  it("the tables of flags and causes are the code's", () => {
    const flags = tableAfter("<!-- table: FLAG -->");
    const found = Object.fromEntries(
      flags.map(([name, value]) => [name!.replaceAll("`", ""), Number(value)]),
    );
    assertEquals(found, { ...FORMAT.FLAG } as Record<string, number>);
    const causes = tableAfter("<!-- table: CAUSE -->");
    const named = Object.fromEntries(causes.map(([cause]) => {
      const [value, name] = cause!.split(" ");
      return [name, Number(value)];
    }));
    assertEquals(named, { ...FORMAT.CAUSE } as Record<string, number>);
  });

  it("[F4] the checksum is that of zlib and gzip", () => {
    const digits = new TextEncoder().encode("123456789");
    assertEquals(crc32(digits), 0xcbf43926);
    assertEquals(checksum(digits), 0xcbf43926);
    const head = crc32(digits.subarray(0, 4));
    assertEquals(crc32(digits.subarray(4), head), 0xcbf43926);
  });

  const dump = /```hexdump\n([\s\S]*?)```/.exec(text)![1]!.trimEnd();

  it("[F49] the example is what the code writes, byte for byte", () => {
    const bytes = new Uint8Array(65536);
    for (const line of dump.split("\n")) {
      if (line === "*") continue;
      const at = parseInt(line.slice(0, 8), 16);
      const row = line.slice(10, 58).trim().split(/\s+/);
      assertEquals(row.length, 16, line);
      bytes.set(row.map((byte) => parseInt(byte, 16)), at);
    }
    assertEquals(bytes, exampleSegment());
    assertEquals(dump, hexdump(bytes));
  });

  it("[F49][F1] the example's fields are as it says, little-endian", () => {
    const bytes = exampleSegment();
    const rows = tableAfter(`${dump}\n\`\`\``);
    assert(rows.length > 40, `${rows.length} rows`);
    for (const [offset, size, field, value] of rows) {
      const at = Number(offset);
      const part = bytes.subarray(at, at + Number(size));
      if (value!.startsWith('"')) {
        const found = new TextDecoder().decode(part).replace(/\0+$/, "");
        assertEquals(`"${found}"`, value, `${field} at ${at}`);
      } else if (part.length === 16) {
        const digits = [...part].map((one) =>
          one.toString(16).padStart(2, "0")
        );
        assertEquals(digits.join(""), value, `${field} at ${at}`);
      } else {
        const found = part.reduceRight(
          (sum, one) => sum * 256n + BigInt(one),
          0n,
        );
        assertEquals(found, BigInt(value!), `${field} at ${at}`);
      }
    }
  });

  it("[F49] the example is a log that opens", () => {
    const files = makeLog(() => {});
    const manifest = manifestOf(files);
    manifest.set(exampleSegment().subarray(16, 32), 16);
    setU32(manifest, 120, 4232);
    setU64(manifest, 96, 4);
    sealManifest(manifest);
    files.set(segmentFile(1), exampleSegment());
    for (const closed of [1, 0]) {
      setU32(manifest, 124, closed);
      sealManifest(manifest);
      const wal = open(plantFiles(files));
      const found = [...wal].map((entry) => {
        const { term, timestampNs } = entry;
        return { term, timestampNs, text: entry.text() };
      });
      const expected = EXAMPLE_ENTRIES.map(({ flags: _, ...rest }) => rest);
      assertEquals<unknown>(found, expected);
      wal.closeSync();
    }
  });
});

describe("format: names and numbers", () => {
  it("[F6] other names than a segment's are left alone", () => {
    const files = makeLog((wal) => append(wal, 1));
    const strange = [
      `segment_${"0".repeat(20)}.wal`,
      `segment_${"0".repeat(18)}2.wal`,
      `segment_${"0".repeat(20)}2.wal`,
      `segment_${"9".repeat(20)}.wal`,
      `segment_${String(2n ** 53n).padStart(20, "0")}.wal`,
      "segment_.wal",
      `${segmentFile(2)}.bak`,
      `Segment_${"0".repeat(19)}2.wal`,
      "notes.txt",
    ];
    for (const name of strange) files.set(name, new Uint8Array([1, 2, 3]));
    const disk = plantFiles(files);
    assertEquals(texts(disk), ["e1"]);
    const after = takeFiles(disk);
    for (const name of strange) {
      assertEquals(after.get(name), new Uint8Array([1, 2, 3]), name);
    }
  });

  it("[F6] only the library's own files in the making are removed", () => {
    const own = [
      `${segmentFile(1)}.tmp`,
      `${segmentFile(7)}.tmp`,
      "manifest.1.tmp",
      "manifest.1234.tmp",
    ];
    const strange = [
      "notes.tmp",
      ".tmp",
      "manifest.tmp",
      "manifest..tmp",
      "manifest.1a.tmp",
      "manifest.1.tmp.tmp",
      "my manifest.1.tmp",
      "segment_1.wal.tmp",
      `segment_${"0".repeat(20)}2.wal.tmp`,
      `a${segmentFile(2)}.tmp`,
      `${segmentFile(2)}.tmp.tmp`,
      `${segmentFile(2)}.from-4096.tmp`,
    ];
    const bytes = new Uint8Array([1, 2, 3]);
    const work = (wal: Wal) => append(wal, 1);
    const unused = killedLog(() => {});
    unused.delete("manifest");
    // Opened after a close and after a death, and made anew.
    const logs = [makeLog(work), killedLog(work), unused, new Map() as Files];
    for (const [turn, files] of logs.entries()) {
      for (const name of [...own, ...strange]) files.set(name, bytes);
      const disk = plantFiles(files);
      assertEquals(texts(disk), turn < 2 ? names(1) : []);
      const after = takeFiles(disk);
      for (const name of own) assertEquals(after.has(name), false, name);
      for (const name of strange) assertEquals(after.get(name), bytes, name);
    }
  });

  it("[F50] a new segment has both records twice before its name", () => {
    const disk = quietDisk();
    const pages: Bytes[] = [];
    disk.onCall(({ operation, name }) => {
      if (operation !== "rename" || !name.endsWith(".wal.tmp")) return;
      pages.push(disk.peek(name)!.slice(0, 4096));
    });
    const wal = open(disk);
    append(wal, 2);
    wal.rotateSync();
    append(wal, 2);
    wal.truncateAfterSync(1);
    wal.closeSync();
    disk.onCall(undefined);
    assertEquals(pages.length, 3);
    for (const page of pages) {
      assertEquals(page.slice(3968), page.slice(0, 128));
      assertEquals(page.slice(3840, 3968), page.slice(128, 256));
      const crc = checksum(page.subarray(128, 252), saltOf(page));
      assertEquals(getU32(page, 3840 + 124), crc);
    }
  });

  it("[F7] a segment's number is never used twice", () => {
    const disk = quietDisk();
    const seen = new Set<string>();
    let wal = open(disk);
    const look = () => {
      for (const { path, createdAt } of wal.segments()) {
        const salt = saltOf(disk.peek(path)!);
        seen.add(`${path} ${createdAt.getTime()} ${salt}`);
      }
    };
    for (let turn = 0; turn < 6; turn++) {
      append(wal, 2);
      wal.rotateSync();
      append(wal, 2);
      look();
      wal.truncateAfterSync(turn);
      look();
      if (turn % 2 === 0) continue;
      wal.closeSync();
      wal = open(disk);
    }
    wal.closeSync();
    const paths = [...seen].map((one) => one.split(" ")[0]);
    assertEquals(new Set(paths).size, seen.size);
    assert(seen.size > 10);
  });

  it("[F8] a segment under another number's name is refused", () => {
    const files = makeLog((wal) => {
      append(wal, 1);
      wal.rotateSync();
      append(wal, 1);
    });
    for (const number of [2, 3, 4]) {
      const moved = copyFiles(files);
      moved.set(segmentFile(number), files.get(segmentFile(1))!);
      refused(moved, "is segment 1 by its header");
    }
  });

  it("[F14] generation and cause say why a segment was begun", () => {
    const disk = quietDisk();
    const wal = open(disk);
    append(wal, 3);
    wal.rotateSync();
    append(wal, 3);
    wal.truncateAfterSync(4);
    append(wal, 1);
    const found = disk.processDeath();
    const files = takeFiles(found);
    // A torn tail: a byte behind the last frame.
    const tail = files.get(segmentFile(3))!;
    tail[frameOffsets(tail).at(-1)! + 100] = 1;
    const cut = plantFiles(files);
    open(cut).closeSync();
    const after = takeFiles(cut);
    const said = [1, 2, 3, 4].map((number) => {
      const segment = after.get(segmentFile(number))!;
      return [getU32(segment, 128 + 52), Number(getU64(segment, 128 + 32))];
    });
    assertEquals(said, [[0, 0], [0, 0], [1, 1], [2, 2]]);
  });
});

/** Opening these files is refused, and changes nothing. */
function refused(files: Files, message = ""): WalCorruptedError {
  const disk = plantFiles(files);
  const error = assertThrows(() => open(disk), WalCorruptedError, message);
  assert(sameFiles(files, takeFiles(disk)), "the disk has changed");
  return error;
}

describe("format: batches, marks and watermarks", () => {
  it("[F19] a truncation ends a batch where the link says", () => {
    const work = (wal: Wal) => {
      append(wal, 1);
      wal.appendBatchSync(["e2", "e3", "e4", "e5"]);
      wal.truncateAfterSync(3);
      appendUnsynced(wal, 1);
    };
    for (const files of [makeLog(work), killedLog(work)]) {
      assertEquals(texts(plantFiles(files)), names(4));
      // Scanned from the beginning as well.
      const manifest = manifestOf(files);
      setU32(manifest, 124, 0);
      setU64(manifest, 112, 0);
      setU32(manifest, 120, 0);
      sealManifest(manifest);
      const link = files.get(segmentFile(2))!;
      setU64(link, 128 + 40, 0);
      setU32(link, 128 + 48, 0);
      sealLink(link);
      assertEquals(texts(plantFiles(files)), names(4));
    }
  });

  it("[F20] marks are ends of frames that were synced before", () => {
    const disk = quietDisk();
    const wal = open(disk);
    const ends = [4096];
    const endNow = () => frameEnd(disk.peek(`${LOG}/${segmentFile(1)}`)!);
    for (let i = 0; i < 6; i++) {
      appendUnsynced(wal, 3);
      const unsynced = disk.peek(`${LOG}/${segmentFile(1)}`)!;
      const mark = getU32(unsynced, frameOffsets(unsynced).at(-1)! + 20);
      assertEquals(mark, ends.at(-1), `round ${i}`);
      wal.flushSync();
      ends.push(endNow());
    }
    wal.rotateSync();
    const second = disk.peek(`${LOG}/${segmentFile(2)}`)!;
    assertEquals(getU64(second, 128 + 40), 1n);
    assertEquals(getU32(second, 128 + 48), ends.at(-1));
    wal.closeSync();
  });

  it("[F21] a mark is clamped to the chain", () => {
    const chain = [[2, 4096], [5, 5000], [9, 6000]].map(
      ([number, previousEnd]) => ({
        name: "",
        identity: { number },
        link: { previousEnd },
      }),
    ) as unknown as ChainSegment[];
    const clamp = (number: number, offset: number) => {
      const place = clampToChain({ number, offset }, chain);
      return place === undefined ? "lost" : [place.number, place.offset];
    };
    assertEquals(clamp(1, 9000), [0, 0]);
    assertEquals(clamp(2, 4104), [2, 4104]);
    assertEquals(clamp(2, 9000), [2, 5000]);
    assertEquals(clamp(4, 4096), [2, 5000]);
    assertEquals(clamp(8, 4096), [5, 6000]);
    assertEquals(clamp(9, 2 ** 31), [9, 2 ** 31]);
    assertEquals(clamp(10, 4096), "lost");
  });

  it("[F21] marks in a segment whose link is lost say that it is", () => {
    const disk = quietDisk();
    const wal = open(disk);
    append(wal, 2);
    const manifest = disk.peek(`${LOG}/manifest`)!;
    wal.rotateSync();
    append(wal, 3);
    const files = takeFiles(disk.processDeath());
    files.set("manifest", manifest);
    assertEquals(texts(plantFiles(files)), names(5));
    loseLink(files.get(segmentFile(2))!);
    refused(files, "names segment 2, which is missing");
  });

  it("[F22][F45] a watermark follows recovery and close", () => {
    const work = (wal: Wal) => append(wal, 2);
    const disk = plantFiles(killedLog(work));
    const wal = open(disk);
    const segment = disk.peek(`${LOG}/${segmentFile(1)}`)!;
    const at = frameOffsets(segment).at(-1)!;
    assertEquals(frameOffsets(segment).length, 3);
    assertEquals(getU32(segment, at + 4), 40);
    assertEquals(getU64(segment, at + 8), 3n);
    assertEquals(getU32(segment, at + 16), 8);
    assertEquals(getU32(segment, at + 20), at);
    wal.closeSync();
    const closed = makeLog(work).get(segmentFile(1))!;
    assertEquals(frameOffsets(closed).length, 3);
  });

  it("[F22][F24] watermarks never run into the place of the index", () => {
    // Repeated starts and deaths of a program on a segment that is full.
    let disk = quietDisk();
    let wal = open(disk);
    wal.appendSync(new Uint8Array(65536 - 4096 - 344 - 40 - 80));
    wal.appendSync("");
    for (let i = 0; i < 20; i++) {
      disk = disk.processDeath();
      wal = open(disk);
      assertEquals(wal.length, 2);
    }
    wal.appendSync("next");
    assertEquals(wal.segments().length, 2);
    for (let i = 0; i < 3; i++) {
      disk = disk.processDeath();
      wal = open(disk);
      assertEquals(wal.get(3).text(), "next");
      wal.flushSync();
    }
    wal.closeSync();
    assertEquals([...open(disk)].length, 3);
  });

  it("[F24] frames end before the blocks of their entries", () => {
    const random = new Random(11);
    const disk = quietDisk();
    const wal = openWalSync(LOG, {
      storage: disk,
      segmentBytes: 65536,
      sync: "never",
    });
    while (wal.segments().length < 8) {
      const most = random.pick([0, 10, 300, 3000]);
      wal.appendSync(new Uint8Array(random.int(most + 1)));
      if (random.chance(0.05)) {
        wal.appendBatchSync(["", "", "x".repeat(random.int(400))]);
      }
    }
    const files = takeFiles(disk);
    for (let number = 1; number < 8; number++) {
      const segment = files.get(segmentFile(number))!;
      const footer = segment.length - 64;
      const blocks = getU32(segment, footer + 28);
      const end = getU32(segment, footer + 24);
      assert(end <= footer - 280 * blocks, `segment ${number}: ${end}`);
      assertEquals(end, getU32(files.get(segmentFile(number + 1))!, 128 + 20));
    }
    wal.closeSync();
  });
});

function frameEnd(segment: Bytes): number {
  const last = frameOffsets(segment).at(-1);
  if (last === undefined) return 4096;
  return last + Math.ceil(getU32(segment, last + 4) / 8) * 8;
}

/** What changes a folder; LOCK files do not count. */
const CHANGES = ["create", "rename", "remove", "makeFolder", "write", "map"];

/** The changing calls while `work` runs. */
function changesOf(disk: SimulatedStorage, work: () => void): string[] {
  const calls: string[] = [];
  disk.onCall(({ operation, name }) => {
    const file = name.slice(name.lastIndexOf("/") + 1);
    if (operation.endsWith("ync")) calls.push(`sync ${file}`);
    if (operation === "directorySync") calls.push("sync folder");
    if (!CHANGES.includes(operation) || file.startsWith("LOCK")) return;
    calls.push(`${operation} ${file}`);
  });
  try {
    work();
  } finally {
    disk.onCall(undefined);
  }
  return calls;
}

describe("format: manifest", () => {
  it("[F28] is written beside, synced, renamed, and the folder synced", () => {
    const disk = plantFiles(makeLog((wal) => append(wal, 1)));
    const wal = open(disk);
    const calls = changesOf(disk, () => wal.closeSync());
    const renamed = calls.findIndex((one) => one.startsWith("rename"));
    const temporary = calls[renamed]!.split(" ")[1]!;
    assert(/^manifest\.[0-9]+\.tmp$/.test(temporary), temporary);
    const order = [
      calls.indexOf(`create ${temporary}`),
      calls.lastIndexOf(`write ${temporary}`),
      calls.lastIndexOf(`sync ${temporary}`),
      renamed,
      calls.lastIndexOf("sync folder"),
    ];
    assertEquals(order, [...order].sort((a, b) => a - b), calls.join(", "));
    assert(order[0]! >= 0, calls.join(", "));
  });

  it("[F30] says that the log is open before the first frame", () => {
    const disk = plantFiles(makeLog((wal) => append(wal, 2)));
    const wal = open(disk);
    appendUnsynced(wal, 1);
    const lost = disk.crash({ pages: () => "old", names: () => false });
    assertEquals(getU32(manifestOf(takeFiles(lost)), 124), 0);
    assertEquals(texts(lost), names(2));
  });

  it("[F30] is durable before a segment is removed", () => {
    const disk = quietDisk();
    const wal = open(disk);
    for (let i = 0; i < 3; i++) {
      append(wal, 2);
      wal.rotateSync();
    }
    append(wal, 2);
    const images: SimulatedStorage[] = [];
    disk.onCall(({ operation, name }) => {
      if (operation !== "remove" || !name.endsWith(".wal")) return;
      images.push(disk.image({ pages: () => "old", names: () => false }));
    });
    wal.truncateAfterSync(3);
    disk.onCall(undefined);
    assert(images.length >= 2, `${images.length} segments were removed`);
    for (const image of images) {
      const files = takeFiles(image);
      assertEquals(getU64(manifestOf(files), 104), 1n);
      assertEquals(texts(image), names(3));
    }
    wal.closeSync();
  });

  it("[F31] closed counts only while nothing follows the mark", () => {
    const disk = quietDisk();
    let wal = open(disk);
    append(wal, 2);
    wal.closeSync();
    const old = disk.peek(`${LOG}/manifest`)!;
    assertEquals(getU32(old, 124), 1);
    wal = open(disk);
    append(wal, 2);
    wal.closeSync();
    disk.plant(`${LOG}/manifest`, old);
    const again = open(disk);
    assertEquals([...again].map((one) => one.text()), names(4));
    assertEquals(again.recovery.outcome, "clean");
    again.closeSync();
  });
});

describe("format: recovery, the chain", () => {
  const two = (wal: Wal) => {
    append(wal, 2);
    wal.rotateSync();
    append(wal, 2);
  };

  it("[F33] without a manifest only an unused segment 1 is a new log", () => {
    const unused = killedLog(() => {});
    unused.delete("manifest");
    const disk = plantFiles(unused);
    const wal = open(disk);
    assertEquals(wal.recovery.outcome, "created");
    wal.closeSync();

    for (const work of [(wal: Wal) => append(wal, 1), two]) {
      const files = makeLog(work);
      files.delete("manifest");
      refused(files, "is missing");
    }
    const damaged = copyFiles(unused);
    damaged.get(segmentFile(1))!.fill(0, 0, 4096);
    refused(damaged, "is missing");
    const later = copyFiles(unused);
    const bytes = unused.get(segmentFile(1))!;
    setU64(bytes, 32, 2);
    sealIdentity(bytes);
    later.delete(segmentFile(1));
    later.set(segmentFile(2), bytes);
    refused(later, "is missing");
  });

  it("[F34] the chain is checked link by link", () => {
    const files = makeLog(two);
    const forge = (change: (link: Bytes) => void): Files => {
      const forged = copyFiles(files);
      change(forged.get(segmentFile(2))!);
      sealLink(forged.get(segmentFile(2))!);
      return forged;
    };
    const at = 128;
    refused(forge((link) => setU32(link, at + 16, 7)), "the salt differs");
    refused(forge((link) => setU32(link, at + 20, 65536)), "contradicts");
    refused(
      forge((link) => {
        setU64(link, at, 2 ** 40 + 1);
        setU64(link, at + 24, 2 ** 40);
      }),
      "contradicts",
    );
    const missing = copyFiles(files);
    missing.delete(segmentFile(1));
    refused(missing, "is missing");
    // A chain that begins anew needs a higher generation.
    refused(forge((link) => {
      setU64(link, at + 8, 0);
      setU32(link, at + 16, 0);
      setU32(link, at + 20, 0);
    }));
  });

  it("[F34] a torn new segment gives way to the one before", () => {
    const disk = quietDisk();
    const wal = open(disk);
    append(wal, 2);
    const manifest = disk.peek(`${LOG}/manifest`)!;
    wal.rotateSync();
    const files = takeFiles(disk.processDeath());
    files.set("manifest", manifest);
    // The power cut took the new segment's header, and nobody wrote to it.
    files.get(segmentFile(2))!.fill(0);
    const cut = plantFiles(files);
    assertEquals(texts(cut), names(2));
    assertEquals(takeFiles(cut).has(segmentFile(2)), false);
  });

  it("[F35] leftovers are removed, kept or refused by their place", () => {
    const files = makeLog((wal) => {
      two(wal);
      wal.truncateAfterSync(1);
      append(wal, 1);
    });
    assertEquals([...files.keys()].filter((one) => one.endsWith("wal")), [
      segmentFile(1),
      segmentFile(3),
    ]);
    const middle = makeLog(two).get(segmentFile(2))!;
    middle.set(files.get(segmentFile(1))!.subarray(16, 32), 16);
    sealIdentity(middle);
    sealLink(middle);
    const place = (name: string, bytes: Bytes): [Files, string[]] => {
      const disk = plantFiles(new Map([...files, [name, bytes]]));
      assertEquals(texts(disk), names(2));
      const cut = `${LOG}/cut`;
      const times = disk.openDirectory(cut, {
        create: true,
        directoryMode: 0,
        fileMode: 0,
      })!.list();
      const kept = times.flatMap((
        { name },
      ) => [...takeFiles(disk, `${cut}/${name}`).keys()]);
      return [takeFiles(disk), kept];
    };
    const check = (name: string, bytes: Bytes, keeps: boolean) => {
      const [after, kept] = place(name, bytes);
      assertEquals(after.has(name), false, name);
      assertEquals(kept.includes(name), keeps, `${name} is kept`);
    };
    // Cut off by a truncation: gone. Without a header: who knows.
    check(segmentFile(2), middle, false);
    check(segmentFile(2), new Uint8Array(65536), true);
    check("manifest.12.tmp", new Uint8Array(5), false);
    check(`${segmentFile(9)}.tmp`, new Uint8Array(5), false);
    check(segmentFile(9), new Uint8Array(0), true);
    check(segmentFile(9), new Uint8Array(65536), true);
    const odd = new Map([...files, [segmentFile(9), new Uint8Array(100)]]);
    refused(odd, "has 100 bytes");
  });

  it("[F35] a damaged header not above the manifest's last is refused", () => {
    const files = makeLog(two);
    loseLink(files.get(segmentFile(2))!);
    refused(files);
  });

  it("[F48] a newer version is refused, and every byte stays", () => {
    const files = makeLog(two);
    const newerSegment = copyFiles(files);
    for (const at of [8, 3976]) {
      setU32(newerSegment.get(segmentFile(2))!, at, 2);
    }
    sealIdentity(newerSegment.get(segmentFile(2))!);
    const newerManifest = copyFiles(files);
    setU32(manifestOf(newerManifest), 8, 2);
    sealManifest(manifestOf(newerManifest));
    for (const newer of [newerSegment, newerManifest]) {
      const disk = plantFiles(newer);
      const error = assertThrows(() => open(disk), UnsupportedFormatError);
      assertEquals(error.found, "version 2");
      assert(sameFiles(newer, takeFiles(disk)));
    }
  });
});

describe("format: recovery, the verdict", () => {
  /** Six durable entries, six that nobody was promised. */
  function halfDurable(): Files {
    return killedLog((wal) => {
      append(wal, 6);
      appendUnsynced(wal, 6);
    });
  }

  function damageFrame(files: Files, nth: number, number = 1): number {
    const segment = files.get(segmentFile(number))!;
    const offset = frameOffsets(segment)[nth - 1]!;
    segment[offset + 40]! ^= 1;
    return offset;
  }

  it("[F32] nothing changes before the verdict", () => {
    const torn = halfDurable();
    damageFrame(torn, 9);
    const strict = plantFiles(torn);
    const calls = changesOf(strict, () => {
      assertThrows(() => open(strict, true), WalCorruptedError, "torn bytes");
    });
    assertEquals(calls, []);
    const corrupted = halfDurable();
    damageFrame(corrupted, 3);
    const disk = plantFiles(corrupted);
    assertEquals(
      changesOf(disk, () => {
        assertThrows(() => open(disk), WalCorruptedError);
      }),
      [],
    );
  });

  it("[F37] damage below a mark is corruption, with its place", () => {
    for (let nth = 1; nth <= 5; nth++) {
      const files = halfDurable();
      const offset = damageFrame(files, nth);
      const error = refused(files, "is damaged");
      assertEquals(error.offset, offset);
      assertEquals([error.firstLostIndex, error.lastLostIndex], [nth, nth]);
      assert(error.segment.endsWith(segmentFile(1)));
    }
  });

  it("[F38] frames behind a hole prove nothing; marks do", () => {
    // The sixth entry's sync has no voucher before the seventh frame.
    for (let nth = 7; nth <= 12; nth++) {
      const files = halfDurable();
      damageFrame(files, nth);
      const wal = open(plantFiles(files));
      assertEquals(wal.recovery.outcome, "torn", `frame ${nth}`);
      assertEquals([...wal].map((one) => one.text()), names(nth - 1));
      wal.closeSync();
    }
    const files = halfDurable();
    damageFrame(files, 6);
    refused(files, "is damaged");
  });

  it("[F38] an unfinished batch is torn, and gone", () => {
    const files = killedLog((wal) => {
      append(wal, 2);
      wal.appendBatch(["a", "b", "c"], { durable: false });
    });
    damageFrame(files, 5);
    const wal = open(plantFiles(files));
    assertEquals(wal.recovery.outcome, "torn");
    assertEquals([...wal].map((one) => one.text()), names(2));
    wal.closeSync();
  });

  it("[F36] a search that cannot end is corruption", () => {
    const files = halfDurable();
    const segment = files.get(segmentFile(1))!;
    const end = frameEnd(segment);
    for (let at = end + 8; at + 128 < segment.length - 400; at += 40) {
      setU32(segment, at + 4, segment.length - 400 - at);
      setU64(segment, at + 8, 14);
      setU32(segment, at + 16, 0xffff0001);
    }
    refused(files, "cannot be decided");
  });

  it("[F39] a manifest must not contradict the segments", () => {
    for (const closed of [false, true]) {
      const base = closed
        ? makeLog((wal) => append(wal, 5))
        : killedLog((wal) => append(wal, 5));
      const forge = (first: number, next: number): Files => {
        const files = copyFiles(base);
        setU64(manifestOf(files), 64, first);
        setU64(manifestOf(files), 96, next);
        sealManifest(manifestOf(files));
        return files;
      };
      refused(forge(7, 9));
      refused(forge(1, 2 ** 50));
      const link = forge(1, 6);
      const segment = link.get(segmentFile(1))!;
      setU64(segment, 128, 3);
      setU64(segment, 128 + 24, 2);
      sealLink(segment);
      for (const [i, at] of frameOffsets(segment).entries()) {
        setU64(segment, at + 8, 3 + i);
        sealFrame(segment, at);
      }
      if (!closed) refused(link, "says that the log holds 1");
    }
  });
});

describe("format: recovery, the repair", () => {
  /** Torn in segment 1; nobody was promised what follows. */
  function torn(): { files: Files; offset: number; segment: Bytes } {
    const files = killedLog((wal) => {
      append(wal, 4);
      appendUnsynced(wal, 4);
      wal.appendBatch(["x", "y"], { durable: false });
    });
    const segment = files.get(segmentFile(1))!;
    const offset = frameOffsets(segment)[5]!;
    segment[offset + 9] ^= 1;
    return { files, offset, segment };
  }

  it("[F40] a crash at any step is recovered to the same log", () => {
    const { files } = torn();
    const whole = plantFiles(files);
    assertEquals(texts(whole), names(5));
    const { callCount } = whole;
    let crashes = 0;
    for (let nth = 1; nth <= callCount; nth++) {
      for (const fate of ["old", "new", "torn"] as const) {
        const disk = plantFiles(files, nth);
        disk.onCall(({ count }) => {
          if (count >= nth) throw new CrashNow();
        });
        try {
          open(disk).closeSync();
        } catch (error) {
          // A sync that meets the power cut may tell it in its own words.
          if (!disk.dead) throw error;
          crashes++;
        }
        const keep = fate !== "old";
        const found = disk.crash({ pages: () => fate, names: () => keep });
        assertEquals(texts(found), names(5), `call ${nth}, ${fate}`);
        assertEquals(texts(found), names(5), `call ${nth}, ${fate}, again`);
      }
    }
    assert(crashes > 60, `${crashes} crashes`);
  });

  it("[F41] the torn bytes are kept in cut/", () => {
    const { files, offset, segment } = torn();
    const disk = plantFiles(files);
    const wal = open(disk);
    const { savedPath, tornBytes } = wal.recovery;
    const name = `${segmentFile(1)}.from-${offset}`;
    const saved = disk.peek(`${savedPath}/${name}`)!;
    assert(/cut\/\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}Z$/.test(savedPath!));
    assertEquals(saved, segment.slice(offset, offset + saved.length));
    assertEquals(saved.length, tornBytes);
    assert(
      segment.subarray(offset + saved.length, 60000).every((b) => b === 0),
    );
    wal.closeSync();
  });

  it("[F42] what survives a failed sync is written again", () => {
    const disk = quietDisk();
    const wal = open(disk);
    append(wal, 2);
    appendUnsynced(wal, 3);
    disk.failNext("sync", "EIO");
    assertThrows(() => wal.flushSync(), WalError);
    // The cache calls these pages clean now; the disk does not have them.
    const found = disk.processDeath();
    const segments = found.dirtyPages().filter(({ path }) =>
      path.endsWith(".wal")
    );
    assertEquals(segments, []);
    const again = open(found);
    assertEquals([...again].map((one) => one.text()), names(5));
    const left = found.crash({ pages: () => "old", names: () => false });
    assertEquals(texts(left), names(5));
  });

  it("[F43] a new segment ends the log at the last whole batch", () => {
    const { files, offset } = torn();
    const disk = plantFiles(files);
    const wal = open(disk);
    assertEquals(wal.segments().length, 2);
    const link = disk.peek(`${LOG}/${segmentFile(2)}`)!.subarray(128, 256);
    const numbers = [0, 8, 24, 32, 40].map((at) => Number(getU64(link, at)));
    assertEquals(numbers, [6, 1, 5, 1, 1]);
    assertEquals([20, 48].map((at) => getU32(link, at)), [offset, offset]);
    wal.closeSync();
  });

  it("[F43] without space zeros take the place of the torn bytes", () => {
    const { files, offset } = torn();
    const disk = plantFiles(files);
    disk.failNext("create", "ENOSPC", { name: ".wal.tmp" });
    const wal = open(disk);
    assertEquals(wal.segments().length, 1);
    assertEquals([...wal].map((one) => one.text()), names(5));
    const segment = disk.peek(`${LOG}/${segmentFile(1)}`)!;
    // Only the watermark stands there now.
    assertEquals(frameEnd(segment), offset + 40);
    assert(segment.subarray(offset + 40, 60000).every((byte) => byte === 0));
    append(wal, 1);
    wal.closeSync();
    assertEquals(texts(disk), names(6));
  });

  it("[F43] a footer that ends before the segment's end is written anew", () => {
    const disk = quietDisk();
    const wal = open(disk);
    append(wal, 3);
    const manifest = disk.peek(`${LOG}/manifest`)!;
    wal.rotateSync();
    // A power cut took the rotation, but for the footer.
    const files = takeFiles(disk.processDeath());
    files.delete(segmentFile(2));
    files.set("manifest", manifest);
    const found = plantFiles(files);
    // It goes on behind a watermark, and dies in the middle of a frame.
    open(found);
    const dead = takeFiles(found.processDeath());
    const segment = dead.get(segmentFile(1))!;
    const end = frameEnd(segment);
    const footer = segment.subarray(segment.length - 64);
    assertEquals(Number(getU64(footer, 16)), 3);
    assertEquals(getU32(footer, 24), end - 40);
    segment.fill(7, end, end + 30);
    const torn = plantFiles(dead);
    assertEquals(texts(torn), names(3));
    assertVerified({ storage: torn, path: LOG });
    const sealed = torn.peek(`${LOG}/${segmentFile(1)}`)!;
    assertEquals(getU32(sealed.subarray(sealed.length - 64), 24), end);
  });

  it("[F44] later segments move to cut/ as they are", () => {
    const disk = quietDisk();
    const wal = open(disk);
    append(wal, 2);
    const manifest = disk.peek(`${LOG}/manifest`)!;
    // All this is one sync round that never ended.
    appendUnsynced(wal, 2);
    wal.append("x".repeat(61_000), { durable: false });
    wal.append("in segment 2", { durable: false });
    const files = takeFiles(disk.processDeath());
    files.set("manifest", manifest);
    assert(files.has(segmentFile(2)));
    const segment = files.get(segmentFile(1))!;
    segment[frameOffsets(segment)[2]! + 40]! ^= 1;
    const later = files.get(segmentFile(2))!;
    const cut = plantFiles(files);
    const again = open(cut);
    assertEquals([...again].map((one) => one.text()), names(2));
    const path = `${again.recovery.savedPath}/${segmentFile(2)}`;
    assertEquals(cut.peek(path), later);
    again.closeSync();
  });
});

describe("format: truncation", () => {
  it("[F46] rewrites nothing: a link ends the segment", () => {
    const disk = quietDisk();
    const wal = open(disk);
    append(wal, 10);
    const before = disk.peek(`${LOG}/${segmentFile(1)}`)!;
    const end = frameOffsets(before)[7]!;
    wal.truncateAfterSync(7);
    const after = disk.peek(`${LOG}/${segmentFile(1)}`)!;
    assertEquals(after.slice(0, end), before.slice(0, end));
    const link = disk.peek(`${LOG}/${segmentFile(2)}`)!.subarray(128, 256);
    const numbers = [0, 8, 24, 32].map((at) => Number(getU64(link, at)));
    assertEquals(numbers, [8, 1, 7, 1]);
    assertEquals([20, 52].map((at) => getU32(link, at)), [end, 1]);
    assertEquals(getU32(link, 16), saltOf(before));
    assert(getU32(link, 48) <= end);
    wal.closeSync();
    assertEquals(texts(disk), names(7));
  });

  it("[F47] an emptied log begins anew, also before the manifest says so", () => {
    const disk = quietDisk();
    let wal = open(disk);
    append(wal, 3);
    const manifest = disk.peek(`${LOG}/manifest`)!;
    wal.truncateAfterSync(0);
    append(wal, 1);
    const link = disk.peek(wal.segments()[0]!.path)!.subarray(128, 256);
    assertEquals([getU64(link, 0), getU64(link, 8)], [1n, 0n]);
    assertEquals(getU64(link, 32), 1n);
    wal.rotateSync();
    append(wal, 1);
    const found = disk.processDeath();
    found.plant(`${LOG}/manifest`, manifest);
    wal = open(found);
    assertEquals([...wal].map((one) => one.text()), names(2));
    wal.closeSync();
    assertEquals(texts(found), names(2));
  });
});

describe("format: other removals", () => {
  it("[F52] beginning anew is a link without a predecessor, at any index", () => {
    for (const next of [1, 3, 4, 100, 2 ** 40]) {
      const disk = quietDisk();
      let wal = open(disk);
      append(wal, 3);
      const manifest = disk.peek(`${LOG}/manifest`)!;
      wal.resetSync(next);
      const link = disk.peek(wal.segments()[0]!.path)!.subarray(128, 256);
      const expected = [next, 0, next - 1, 1, 0];
      const found = [0, 8, 24, 32, 40].map((at) => Number(getU64(link, at)));
      assertEquals(found, expected, `${next}`);
      assertEquals([16, 20, 48, 52].map((at) => getU32(link, at)), [
        0,
        0,
        0,
        1,
      ]);
      append(wal, 2);
      // The link alone says so, until the manifest does.
      const died = disk.fork();
      died.plant(`${LOG}/manifest`, manifest);
      for (const one of [disk, died]) {
        if (one === disk) wal.closeSync();
        wal = open(one);
        assertEquals([wal.firstIndex, wal.lastIndex], [next, next + 1]);
        assertEquals([...wal].map((entry) => entry.text()), [
          `e${next}`,
          `e${next + 1}`,
        ]);
        wal.closeSync();
      }
    }
  });

  /** Three segments of two entries each; the last four are not synced. */
  function threeSegments(disk: SimulatedStorage): Wal {
    const wal = open(disk);
    append(wal, 2);
    wal.rotateSync();
    for (const last of [false, true]) {
      appendUnsynced(wal, 2);
      if (!last) void wal.rotate().catch(() => {});
    }
    return wal;
  }

  it("[F53] removing from the front changes the manifest alone", () => {
    const cases = [[2, 1], [3, 2], [4, 2], [5, 3], [6, 3], [7, 3]] as const;
    for (const [index, firstSegment] of cases) {
      const disk = quietDisk();
      const wal = threeSegments(disk);
      const before = takeFiles(disk);
      wal.truncateBeforeSync(index);
      const after = takeFiles(disk);
      const manifest = manifestOf(after);
      const numbers = [64, 72].map((at) => Number(getU64(manifest, at)));
      assertEquals(numbers, [index, firstSegment], `${index}`);
      for (const [name, bytes] of after) {
        // What is shown to readers is no part of the log.
        if (name === "manifest" || name === "live") continue;
        assertEquals(bytes, before.get(name)!, name);
      }
      const segments = [1, 2, 3].filter((one) => after.has(segmentFile(one)));
      assertEquals(segments, [1, 2, 3].slice(firstSegment - 1), `${index}`);
      wal.closeSync();
      assertEquals(texts(disk), names(6).slice(index - 1));
    }
  });

  it("[F53] all before is synced first, and files go last of all", () => {
    const disk = quietDisk();
    const wal = threeSegments(disk);
    const counts = { described: 0, unlinked: 0 };
    disk.onCall(({ operation, name }) => {
      const lost = { pages: () => "old" as const, names: () => false };
      if (operation === "rename" && name.includes("manifest")) {
        // It is in place only later: nothing that it hides may be missing.
        counts.described++;
        assertEquals(texts(disk.image(lost)), names(6));
      }
      if (operation === "remove" && name.endsWith(".wal")) {
        counts.unlinked++;
        const files = takeFiles(disk.image(lost));
        assertEquals(getU64(manifestOf(files), 64), 6n);
        assertEquals(texts(disk.image(lost)), ["e6"]);
      }
    });
    wal.truncateBeforeSync(6);
    disk.onCall(undefined);
    assertEquals(counts, { described: 1, unlinked: 2 });
    wal.closeSync();
  });
});

describe("format: the folder's helpers", () => {
  it("the document is there, and block places agree", () => {
    assert(existsSync(DOCUMENT));
    const segment = new Uint8Array(65536);
    assertEquals(blockAt(segment, 3), FORMAT.blockOffset(65536, 3));
  });
});
