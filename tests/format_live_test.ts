/**
 * Holds docs/format.md §10 against whole folders: what a writer shows in
 * `live`, when, and what readers make of what lies there.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openReader, openWalSync, type Wal, type WalReader } from "../mod.ts";
import { FRAME, LIVE, LIVE_BYTES } from "../src/format.ts";
import { repairLog } from "../src/repair_log.ts";
import { runBlocking } from "../src/steps.ts";
import { SimulatedStorage } from "../testing/mod.ts";
import { assert, assertEquals, assertNotEquals } from "./_assert.ts";
import {
  type Bytes,
  checksum,
  copyFiles,
  type Files,
  frameOffsets,
  getU32,
  getU64,
  killedLog,
  LOG,
  makeLog,
  plantFiles,
  quietDisk,
  saltOf,
  segmentFile,
  setU32,
  takeFiles,
} from "./_log_bytes.ts";
import { STORAGES } from "./_storages.ts";
import {
  assertVerified,
  entries,
  listFiles,
  onEach,
  type Place,
  putBytes,
  readBytes,
  texts,
} from "./_wal.ts";

const DOCUMENT = new URL("../docs/format.md", import.meta.url);
const MAGIC = [0x89, 0x57, 0x41, 0x4c, 0x4c, 0x49, 0x56, 0x0a];
const PAGES = ["live", "wake"];
/** Where a writer can be told, and time goes by itself. */
const TICKING = STORAGES.filter(({ kind }) =>
  kind === "mapped" || kind === "memory"
);
const SEGMENT = { segmentBytes: 65536 };

function open(storage: SimulatedStorage, options = {}): Wal {
  return openWalSync(LOG, { storage, ...SEGMENT, ...options });
}

/** What a page says, read by the document and not by the library. */
interface Shown {
  readonly sequence: number;
  readonly state: number;
  readonly firstIndex: number;
  readonly generation: number;
  readonly number: number;
  readonly salt: number;
  readonly end: number;
  readonly durable: number;
}

/** The page as a reader may believe it; undefined while it changes. */
function shownBy(page: Bytes): Shown | undefined {
  const sequence = getU32(page, 64);
  if (sequence % 2 === 1) return undefined;
  assertEquals([...page.subarray(0, 8)], MAGIC);
  assertEquals([getU32(page, 8), getU32(page, 12)], [1, 4096]);
  const before = checksum(page.subarray(0, 64));
  assertEquals(getU32(page, 100), checksum(page.subarray(68, 100), before));
  const end = getU32(page, 128);
  assertEquals(getU32(page, 132), ~end >>> 0);
  const high = Math.imul(getU32(page, 140), 0x9e3779b1);
  assertEquals(getU32(page, 144), ~(getU32(page, 136) ^ high) >>> 0);
  return {
    sequence,
    state: getU32(page, 68),
    firstIndex: Number(getU64(page, 72)),
    generation: Number(getU64(page, 80)),
    number: Number(getU64(page, 88)),
    salt: getU32(page, 96),
    end,
    durable: Number(getU64(page, 136)),
  };
}

function hexAt(page: Bytes, at: number): string {
  return [...page.subarray(at, at + 16)]
    .map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Makes a page's checksum right for what is in it. */
function sealLive(page: Bytes): void {
  const before = checksum(page.subarray(0, 64));
  setU32(page, 100, checksum(page.subarray(68, 100), before));
}

function setEnd(page: Bytes, end: number): void {
  setU32(page, 128, end);
  setU32(page, 132, ~end >>> 0);
}

/** Every frame before the end is valid, and the last one ends a batch. */
function checkFrames(segment: Bytes, end: number): void {
  let offset = 4096;
  let continues = false;
  while (offset < end) {
    const length = getU32(segment, offset + FRAME.length);
    assert(length >= 40 && offset + length <= end, `${length} at ${offset}`);
    const seed = (saltOf(segment) ^ offset) >>> 0;
    const found = checksum(segment.subarray(offset + 4, offset + length), seed);
    assertEquals(found, getU32(segment, offset), `the frame at ${offset}`);
    continues = (getU32(segment, offset + FRAME.flags) & 2) !== 0;
    offset += Math.ceil(length / 8) * 8;
  }
  assertEquals(offset, end);
  assert(!continues, "a batch is shown in part");
}

/** All kinds of calls; an entry is left. */
function workAll(wal: Wal): void {
  wal.appendSync("one");
  wal.appendBatchSync(entries(5));
  wal.rotateSync();
  wal.appendBatchSync(entries(3), { durable: false });
  wal.truncateAfterSync(wal.lastIndex - 2);
  wal.appendSync("cut", { durable: false });
  wal.truncateBeforeSync(wal.lastIndex);
  wal.flushSync();
  wal.resetSync(20);
  wal.appendSync("twenty");
}

function readerOf({ path, storage }: Place): Promise<WalReader> {
  return openReader(path, { storage });
}

/** Logs of three entries whose writer has died. */
function deadLog(): Files {
  return killedLog((wal) => {
    for (const text of entries(3)) wal.appendSync(text);
  });
}

async function textsFrom(files: Files): Promise<string[]> {
  await using reader = await openReader(LOG, { storage: plantFiles(files) });
  return Array.from(reader, (entry) => entry.text());
}

describe("format: the live page, the document", () => {
  it("the table LIVE is the code's, without a gap", () => {
    const text = readFileSync(DOCUMENT, "utf8");
    const table = text.split("<!-- table: LIVE 192 -->\n\n")[1]!
      .split("\n\n")[0]!;
    const found: Record<string, number> = {};
    let end = 0;
    for (const row of table.split("\n").slice(2)) {
      const [, offset, size, field] = row.split("|").map((one) => one.trim());
      assertEquals(Number(offset), end, row);
      end += Number(size);
      const name = field!.replaceAll("`", "");
      if (!name.startsWith("reserved")) found[name] = Number(offset);
    }
    assertEquals({ ...found, touched: end }, { ...LIVE });
  });
});

describe("format: the live page, the writer", () => {
  describe("[F59] the page, made at opening, used again", () => {
    onEach("on each storage", async (place) => {
      const mapped = place.kind !== "files";
      const pages: Bytes[] = [];
      for (let turn = 0; turn < 3; turn++) {
        const wal = await place.open();
        const names = listFiles(place)!.filter((name) => PAGES.includes(name));
        assertEquals(names, mapped ? PAGES : ["live"]);
        for (const name of names) {
          assertEquals(readBytes(place, name).length, LIVE_BYTES, name);
        }
        await wal.append(`${turn}`);
        pages.push(readBytes(place, "live"));
        await wal.close();
        pages.push(readBytes(place, "live"));
      }
      const shown = pages.map((page) => shownBy(page)!);
      assertEquals(shown.map(({ state }) => state), [1, 0, 1, 0, 1, 0]);
      assertEquals(shown.map(({ durable }) => durable), [1, 1, 2, 2, 3, 3]);
      const sequences = shown.map(({ sequence }) => sequence);
      assertEquals(sequences, [...new Set(sequences)].sort((a, b) => a - b));
      const boot = place.storage.bootId() || "0".repeat(32);
      const sessions = pages.map((page) => hexAt(page, 48));
      const logId = hexAt(readBytes(place, "manifest"), 16);
      for (const page of pages) {
        assertEquals([hexAt(page, 16), hexAt(page, 32)], [logId, boot]);
      }
      assertEquals(new Set(sessions).size, 3, "a name for each opening");
      for (const at of [104, 148, 196]) {
        const end = { 104: 128, 148: 192, 196: 4096 }[at];
        assert(pages.at(-1)!.subarray(at, end).every((byte) => byte === 0));
      }
    });
  });

  it("[F60] it is never synced, in no way", () => {
    for (const mapped of [true, false]) {
      const disk = new SimulatedStorage({ seed: 1, writeback: 0, mapped });
      disk.onCall(({ operation, name }) => {
        if (!operation.startsWith("sync")) return;
        assert(!PAGES.some((one) => name.endsWith(`/${one}`)), name);
      });
      for (let turn = 0; turn < 2; turn++) {
        const wal = open(disk);
        workAll(wal);
        wal.closeSync();
      }
      disk.onCall(undefined);
      const dirty = disk.dirtyPages().map(({ path }) => path);
      assert(dirty.some((path) => path.endsWith("/live")), "it was written");
    }
  });

  it("[F60] what goes wrong with it fails no call, and is told", () => {
    let all = 0;
    for (
      const operation of ["open", "create", "map", "write", "read"] as const
    ) {
      for (const mapped of [true, false]) {
        for (const name of PAGES) {
          const disk = new SimulatedStorage({ seed: 1, writeback: 0, mapped });
          open(disk).closeSync();
          if (operation === "create") {
            for (const one of PAGES) disk.plant(`${LOG}/${one}`, undefined);
          }
          const warnings: string[] = [];
          const keep = (text: string) => void warnings.push(text);
          const logger = { debug() {}, info() {}, warn: keep, error: keep };
          disk.failNext(operation, "EIO", {
            count: Infinity,
            name: `/${name}`,
          });
          const wal = open(disk, { logger });
          workAll(wal);
          assertEquals(texts(wal), ["twenty"], `${operation} ${name}`);
          wal.closeSync();
          const found = disk.image({ pages: () => "old", names: () => true });
          assertEquals(texts(open(found)), ["twenty"], `${operation} ${name}`);
          const told = new Set(warnings);
          assert(told.size <= 1, warnings.join("; "));
          all += told.size;
        }
      }
    }
    assert(all > 10, `${all} logs were told`);
  });

  onEach("[F60] it may be missing or be anything at rest", async (place) => {
    const puts: [string, () => void][] = PAGES.flatMap((name) => [
      [`no ${name}`, () => removePage(place, name)],
      [`garbage in ${name}`, () => {
        putBytes(place, name, new Uint8Array(LIVE_BYTES).fill(0xa5));
      }],
      [`${name} of another size`, () => {
        putBytes(place, name, new Uint8Array(8192).fill(1));
      }],
      [`${name} cut short`, () => {
        putBytes(place, name, new Uint8Array(100));
      }],
      [`no ${name} again`, () => removePage(place, name)],
    ]);
    let count = 0;
    for (const [what, put] of puts) {
      {
        await using wal = await place.open();
        await wal.append(what);
        count++;
      }
      put();
      await using wal = await place.open();
      assertEquals(wal.recovery.outcome, "clean", what);
      assertEquals(wal.length, count, what);
      await using reader = await readerOf(place);
      assertEquals(reader.length, count, what);
    }
  });

  describe("[F68] what is somebody else's is left alone", () => {
    onEach("on each storage", async (place) => {
      place.sound = false;
      await (await place.open()).close();
      for (const name of PAGES) {
        for (const size of [10, LIVE_BYTES, 8192]) {
          const bytes = new Uint8Array(size).fill(0x61);
          putBytes(place, name, bytes);
          const wal = await place.open();
          await wal.append("x");
          await wal.close();
          assertEquals(readBytes(place, name), bytes, `${name}, ${size} bytes`);
          removePage(place, name);
        }
      }
      // What a power cut has left short is made anew.
      for (const begin of [[], MAGIC]) {
        const bytes = new Uint8Array(100);
        bytes.set(begin);
        putBytes(place, "live", bytes);
        await using wal = await place.open();
        await wal.append("x");
        const page = readBytes(place, "live");
        assertEquals(shownBy(page)!.durable, wal.lastIndex);
      }
    });
  });

  it("[F61] the chain is the log's, whatever was done", () => {
    const disk = quietDisk();
    const wal = open(disk);
    const look = () => shownBy(disk.peek(`${LOG}/live`)!)!;
    const check = (generation: number) => {
      const shown = look();
      const last = wal.segments().at(-1)!;
      const segment = disk.peek(last.path)!;
      assertEquals(shown.number, Number(getU64(segment, 32)));
      assertEquals(shown.salt, saltOf(segment));
      assertEquals(shown.generation, generation);
      assertEquals(Number(getU64(segment, 160)), generation);
      assertEquals(shown.firstIndex, wal.firstIndex || wal.nextIndex);
      const { durable, firstIndex } = shown;
      assertEquals(durable < firstIndex ? 0 : durable, wal.durableIndex);
      checkFrames(segment, shown.end);
      assertEquals(getU32(segment, shown.end), 0, "nothing behind the end");
    };
    check(0);
    wal.appendBatchSync(entries(4));
    check(0);
    wal.rotateSync();
    check(0);
    wal.appendBatchSync(entries(4), { durable: false });
    check(0);
    wal.truncateAfterSync(6);
    check(1);
    wal.truncateBeforeSync(5);
    check(1);
    wal.truncateBeforeSync(7);
    check(1);
    wal.resetSync(100);
    check(2);
    wal.appendSync("x");
    check(2);
    wal.closeSync();
    assertEquals(look().state, 0);
  });

  it("[F62][F63] at no call is the page half of two states", () => {
    for (const mapped of [true, false]) {
      const disk = new SimulatedStorage({ seed: 3, writeback: 0, mapped });
      let odd = 0;
      const seen = new Map<number, string>();
      const watch = () => {
        const page = disk.peek(`${LOG}/live`);
        if (page === undefined || getU32(page, 64) === 0) return;
        const shown = shownBy(page);
        if (shown === undefined) {
          odd++;
          return;
        }
        const chain = hexAt(page, 48) + [...page.subarray(68, 104)];
        const known = seen.get(shown.sequence) ?? chain;
        assertEquals(chain, known, "a chain has a sequence of its own");
        seen.set(shown.sequence, chain);
      };
      disk.onCall(watch);
      for (let turn = 0; turn < 2; turn++) {
        const wal = open(disk);
        workAll(wal);
        wal.closeSync();
        watch();
      }
      disk.onCall(undefined);
      assert(seen.size >= 10, `${seen.size} chains`);
      // A mapped page changes between two calls, another one by calls.
      assert(mapped || odd > 0, "a write was seen in the middle");
    }
  });

  it("[F64] what is shown is in the file, in whole batches", () => {
    for (const mapped of [true, false]) {
      const disk = new SimulatedStorage({ seed: 4, writeback: 0, mapped });
      let frames = 0;
      disk.onCall(() => {
        const page = disk.peek(`${LOG}/live`);
        if (page === undefined || getU32(page, 64) === 0) return;
        const shown = shownBy(page);
        if (shown === undefined) return;
        const segment = disk.peek(`${LOG}/${segmentFile(shown.number)}`);
        if (segment === undefined || saltOf(segment) !== shown.salt) return;
        checkFrames(segment, shown.end);
        if (shown.end > 4096) frames++;
      });
      const wal = open(disk);
      workAll(wal);
      wal.closeSync();
      disk.onCall(undefined);
      assert(frames > 20, `${frames} looks`);
    }
  });

  it("[F66] a repair that takes entries away shows nothing first", () => {
    const files = deadLog();
    const segment = files.get(segmentFile(1))!;
    segment[frameOffsets(segment)[1]! + 41]! ^= 1;
    const disk = plantFiles(files);
    let zero = false;
    disk.onCall(({ operation }) => {
      const changes = ["create", "rename", "write"].includes(operation);
      if (!changes || zero) return;
      const page = disk.peek(`${LOG}/live`)!;
      zero = page.every((byte) => byte === 0);
      const now = disk.peek(`${LOG}/${segmentFile(1)}`)!;
      assertEquals(now, segment, "the log is as before");
    });
    const report = runBlocking(repairLog(disk, LOG, "cut"));
    disk.onCall(undefined);
    assert(report.done && zero);
    const left = takeFiles(disk);
    assert(left.get("live")!.every((byte) => byte === 0));
    assertEquals(texts(open(plantFiles(left))), entries(1));
  });

  describe("[F67] a reader that waits says so, and is told", () => {
    onEach("on each storage", async (place) => {
      await using wal = await place.open();
      const touched = () => getU32(readBytes(place, "live"), 192);
      await wal.append("one");
      const before = touched();
      await wal.append("two");
      assertEquals(touched(), before, "nobody waits");
      await using reader = await readerOf(place);
      const follower = reader.follow({ from: 2 });
      assertEquals((await follower.next()).value!.text(), "two");
      const next = follower.next();
      while (getU32(readBytes(place, "wake"), 0) !== 1) await sleep(1);
      wal.appendSync("three");
      assertEquals(getU32(readBytes(place, "wake"), 0), 0);
      assertNotEquals(touched(), before);
      assertEquals((await next).value!.text(), "three");
      await follower.return?.();
    }, TICKING);
  });
});

describe("format: the live page, readers", () => {
  it("[F64] what is not shown does not exist", async () => {
    const files = deadLog();
    assertEquals(await textsFrom(files), entries(3));
    const offsets = frameOffsets(files.get(segmentFile(1))!);
    for (const [count, end] of offsets.entries()) {
      setEnd(files.get("live")!, end);
      assertEquals(await textsFrom(files), entries(count));
    }
  });

  it("[F65] another log, another boot, a closed one: the disk tells", async () => {
    const files = deadLog();
    const page = files.get("live")!;
    setEnd(page, frameOffsets(files.get(segmentFile(1))!)[1]!);
    assertEquals(await textsFrom(files), entries(1), "believed");
    const changes: [string, (page: Bytes) => void][] = [
      ["another log", (page) => page[16]! ^= 1],
      ["another boot", (page) => page[47]! ^= 1],
      ["no boot", (page) => page.fill(0, 32, 48)],
      ["closed", (page) => setU32(page, 68, 0)],
      ["changing", (page) => setU32(page, 64, getU32(page, 64) | 1)],
    ];
    for (const [what, change] of changes) {
      const changed = copyFiles(files);
      change(changed.get("live")!);
      sealLive(changed.get("live")!);
      assertEquals(await textsFrom(changed), entries(3), what);
    }
  });

  it("[F65] what a power cut has taken is not believed", async () => {
    const disk = quietDisk();
    const wal = open(disk);
    wal.appendSync("entry 1");
    wal.appendSync("entry 2", { durable: false });
    const files = takeFiles(disk);
    const live = files.get("live")!;
    const after = disk.crash({
      pages: ({ path }) => path.endsWith("live") ? "new" : "old",
      names: () => true,
    });
    // The page reached the disk, by chance; the entry did not.
    assertEquals(after.peek(`${LOG}/live`), live);
    assertNotEquals(after.bootId(), hexAt(live, 32));
    await using reader = await openReader(LOG, { storage: after });
    assertEquals(Array.from(reader, (one) => one.text()), entries(1));
  });

  it("[F60] verifying does not look at it", () => {
    const files = makeLog((wal) => wal.appendBatchSync(entries(3)));
    const page = files.get("live")!;
    const disk = plantFiles(files);
    disk.onCall(({ operation, name }) =>
      assertNotEquals([operation, name], ["open", `${LOG}/live`])
    );
    assertVerified({ storage: disk, path: LOG });
    // Whole, but with lies: of another log, in the middle of the segment.
    page[16]! ^= 1;
    setEnd(page, 4136);
    sealLive(page);
    assertVerified({ storage: plantFiles(files), path: LOG });
  });
});

function removePage(place: Place, name: string): void {
  const folder = place.storage.openDirectory(place.path, {
    create: false,
    directoryMode: 0o750,
    fileMode: 0o640,
  })!;
  if (folder.list().some((one) => one.name === name)) folder.remove(name);
  folder.close();
}
