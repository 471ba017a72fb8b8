import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { openWal, StorageError, type Wal, WalError } from "../mod.ts";
import { crc32 } from "../src/crc32.ts";
import {
  LINK,
  LINK_BYTES,
  LINK_COPY_OFFSET,
  LINK_OFFSET,
  MANIFEST_NAME,
} from "../src/format.ts";
import { decodeIdentity, decodeLink, encodeLink } from "../src/header.ts";
import { decodeManifest, encodeManifest } from "../src/manifest.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { temporaryFolder } from "./_storages.ts";
import {
  block,
  makePlace,
  onEachTwin,
  type Place,
  putBytes,
  readBytes,
  REAL,
  segmentNames,
  settled,
  simulatedPlace,
  texts,
  type Twin,
} from "./_wal.ts";

const MAX = Number.MAX_SAFE_INTEGER;

/** An empty log whose next index is `index`: by its manifest and its link. */
async function emptyLogAt(
  place: Place,
  twin: Twin,
  index: number,
): Promise<void> {
  await twin.close(await twin.open(place));
  const name = segmentNames(place)[0]!;
  const segment = readBytes(place, name);
  const page = segment.subarray(0, 4096) as Uint8Array<ArrayBuffer>;
  const verdict = decodeIdentity(page);
  assert(verdict.kind === "valid");
  const { identity } = verdict;
  const link = decodeLink(page, identity)!;
  const moved = { ...link, baseIndex: index, previousLastIndex: index - 1 };
  const record = encodeLink(moved, identity.salt);
  assertEquals(record.length, LINK_BYTES);
  const crc = crc32(record.subarray(0, LINK.crc), identity.salt);
  const view = new DataView(record.buffer);
  assertEquals(crc, view.getUint32(LINK.crc, true));
  segment.set(record, LINK_OFFSET);
  segment.set(record, LINK_COPY_OFFSET);
  putBytes(place, name, segment);
  const found = decodeManifest(readBytes(place, MANIFEST_NAME));
  assert(found.kind === "valid");
  const manifest = { ...found.manifest, firstIndex: index, nextIndex: index };
  putBytes(place, MANIFEST_NAME, encodeManifest(manifest));
}

describe("indexes up to 2^53 - 1", () => {
  onEachTwin("far beyond 2^32 everything works", async (place, twin) => {
    const base = 2 ** 52 + 2 ** 33 + 5;
    await emptyLogAt(place, twin, base);
    const wal = await twin.open(place);
    assertEquals(wal.nextIndex, base);
    assertEquals([wal.firstIndex, wal.lastIndex, wal.length], [0, 0, 0]);
    assertEquals(await twin.append(wal, "a"), base);
    assertEquals(await twin.appendBatch(wal, ["b", "c"]), [base + 1, base + 2]);
    await twin.rotate(wal);
    for (let i = 0; i < 100; i++) await twin.append(wal, `entry ${i}`);
    assertEquals(wal.firstIndex, base);
    assertEquals(wal.durableIndex, base + 102);
    const error = assertThrows(() => wal.get(base - 1), WalError);
    assertEquals((error as { reason?: string }).reason, "removed");
    await twin.truncateAfter(wal, base + 50);
    await twin.close(wal);
    using again = await twin.open(place);
    assertEquals(again.recovery.outcome, "clean");
    assertEquals(again.length, 51);
    assertEquals(again.get(base + 50).text(), "entry 47");
    assertEquals(again.get(base).text(), "a");
  });

  onEachTwin(
    "the last index is written, the next a RangeError",
    async (place, twin) => {
      await emptyLogAt(place, twin, MAX - 2);
      const wal = await twin.open(place);
      assertEquals(await twin.append(wal, "a"), MAX - 2);
      const tooMany = ["b", "c", "d"];
      const batch = await assertRejects(
        () => twin.appendBatch(wal, tooMany),
        RangeError,
        "2^53",
      );
      assertStringIncludes(batch.message, "expected");
      assertEquals(wal.lastIndex, MAX - 2);
      assertEquals(await twin.appendBatch(wal, ["b", "c"]), [MAX - 1, MAX]);
      assertEquals(wal.lastIndex, MAX);
      for (
        const call of [
          () => twin.append(wal, "beyond"),
          () => twin.append(wal, { data: "beyond" }),
          () => twin.appendBatch(wal, ["beyond"]),
        ]
      ) {
        const error = await assertRejects(call, RangeError, "Cannot append");
        assertStringIncludes(error.message, "expected");
      }
      assertEquals([wal.lastIndex, wal.length], [MAX, 3]);
      assertEquals(texts(wal), ["a", "b", "c"]);
      assertEquals(wal.get(MAX).text(), "c");
      assertEquals(wal.durableIndex, MAX);
      assertEquals(wal.state, "open");
      await twin.close(wal);
      const again = await twin.open(place);
      assertEquals(texts(again), ["a", "b", "c"]);
      await assertRejects(() => twin.append(again, "beyond"), RangeError);
      await twin.truncateAfter(again, MAX - 1);
      assertEquals(await twin.append(again, "c again"), MAX);
      await twin.close(again);
      using last = await twin.open(place);
      assertEquals(texts(last), ["a", "b", "c again"]);
    },
  );

  onEachTwin(
    "the last index outlives the process, too",
    async (place, twin) => {
      await emptyLogAt(place, twin, MAX);
      const wal = await twin.open(place);
      assertEquals(await twin.append(wal, "the last"), MAX);
      const names = [MANIFEST_NAME, ...segmentNames(place)];
      const bytes = names.map((name) => readBytes(place, name));
      await twin.close(wal);
      // As a killed process would have left it.
      names.forEach((name, i) => putBytes(place, name, bytes[i]!));
      using again = await twin.open(place);
      assertEquals(texts(again), ["the last"]);
      await assertRejects(() => twin.append(again, "beyond"), RangeError);
      place.sound = true;
    },
  );
});

describe("a full disk", () => {
  const root = process.getuid?.() === 0 && process.platform === "linux";
  const skip = root && canMount()
    ? false
    : "needs root on Linux, to mount a tmpfs";

  for (const one of REAL) {
    it(`append rejects, works again, and nothing is lost [${one.kind}]`, {
      skip,
    }, async () => {
      using folder = temporaryFolder();
      using disk = mountTiny(join(folder.path, "disk"), 2 * 1024 * 1024);
      const place = makePlace(one.make(), one, join(disk.path, "log"));
      const wal = await place.open();
      // In the way until somebody needs the space.
      const ballast = join(disk.path, "ballast");
      writeFileSync(ballast, block(1024 * 1024, 1));
      let count = 0;
      let error: StorageError | undefined;
      for (let i = 0; i < 200 && error === undefined; i++) {
        try {
          await wal.append(block(9000, count % 251));
          count++;
        } catch (thrown) {
          assert(thrown instanceof StorageError, `${thrown}`);
          error = thrown;
        }
      }
      assert(error !== undefined, "the disk never became full");
      assertStrictEquals(error.code, "STORAGE");
      assertStrictEquals(error.systemCode, "ENOSPC");
      assertStringIncludes(error.path, place.path);
      assertStringIncludes(error.message, "Cannot");
      assertStringIncludes(error.message, "expected");
      assertGreater(error.operation.length, 0);
      assertGreater(count, 50);
      checkBlocks(wal, count);
      assertEquals(wal.state, "open");
      // Refused again, by all calls, and still as before.
      for (let i = 0; i < 3; i++) {
        const calls = [
          () => wal.append(block(9000, 0)),
          () => Promise.resolve().then(() => wal.appendSync(block(9000, 0))),
          () => wal.appendBatch([block(9000, 0), block(60_000, 0)]),
          () => wal.appendBatch([block(500_000, 0), block(600_000, 0)]),
        ];
        for (const call of calls) {
          const again = await assertRejects(call, StorageError);
          assertStrictEquals(again.systemCode, "ENOSPC");
        }
      }
      checkBlocks(wal, count);
      await wal.flush();
      rmSync(ballast);
      assertEquals(await wal.append(block(9000, count % 251)), count + 1);
      checkBlocks(wal, count + 1);
      await wal.close();
      await using again = await place.open();
      assertEquals(again.recovery.outcome, "clean");
      checkBlocks(again, count + 1);
    });

    it(`a new log does not fit: refused, nothing is left [${one.kind}]`, {
      skip,
    }, async () => {
      using folder = temporaryFolder();
      using disk = mountTiny(join(folder.path, "disk"), 2 * 1024 * 1024);
      const path = join(disk.path, "log");
      const storage = one.make();
      const free = () => statfsSync(disk.path).bfree;
      if (one.kind === "mapped") {
        const before = free();
        for (let i = 0; i < 3; i++) {
          const error = await assertRejects(
            () => openWal(path, { storage, segmentBytes: 64 * 1024 * 1024 }),
            StorageError,
          );
          assertStrictEquals(error.systemCode, "ENOSPC");
        }
        // Folder and lock files may stay; a page or two each.
        assertGreater(free() + 8, before);
      }
      const place = makePlace(storage, one, path);
      await using wal = await place.open();
      assertEquals(await wal.append("x"), 1);
    });

    it(
      `closing and opening with no space left [${one.kind}]`,
      { skip },
      async () => {
        using folder = temporaryFolder();
        using disk = mountTiny(join(folder.path, "disk"), 1024 * 1024);
        const place = makePlace(one.make(), one, join(disk.path, "log"));
        const wal = await place.open();
        await wal.append("kept");
        fillUp(disk.path);
        // The segment has room, and the manifest needs some: either is told.
        await wal.append("in the segment's own space").catch((error) => {
          assert(error instanceof StorageError, `${error}`);
          // Files storage has not allocated what it writes to.
          assertEquals(one.kind, "files");
        });
        const { lastIndex } = wal;
        await wal.close().catch((error) => {
          assert(error instanceof WalError, `${error}`);
          assertStringIncludes(error.message, "ENOSPC");
        });
        const full = await place.open().catch((error: unknown) => {
          assert(error instanceof StorageError, `${error}`);
          assertStrictEquals(error.systemCode, "ENOSPC");
        });
        await full?.close().catch(() => {});
        rmSync(join(disk.path, "fill"));
        await using again = await place.open();
        assertEquals(again.get(1).text(), "kept");
        assertEquals(again.lastIndex, lastIndex);
      },
    );
  }

  it("the simulated disk: at every size, all or nothing", async () => {
    for (let extra = 0; extra < 12; extra++) {
      const { disk, ...place } = simulatedPlace(extra + 1);
      const wal = await settled(disk, place.open());
      const written: number[] = [];
      const operations = ["create", "write", "rename", "map"] as const;
      const operation = operations[extra % 4]!;
      disk.failNext(operation, "ENOSPC", { after: extra >> 2 });
      for (let i = 1; i <= 12; i++) {
        const data = [block(15_000, i), block(15_000, i)];
        try {
          await settled(disk, wal.appendBatch(data));
          written.push(i, i);
        } catch (error) {
          assert(error instanceof StorageError, `${error}`);
        }
        const found = Array.from(wal, (entry) => entry.data[0]!);
        assertEquals(found, written, `a failed ${operation}`);
      }
      await settled(disk, wal.close()).catch((error: unknown) => {
        assert(error instanceof StorageError, `${error}`);
      });
      const again = await settled(disk, place.open());
      const found = Array.from(again, (entry) => entry.data[0]!);
      assertEquals(found, written);
      await settled(disk, again.close());
    }
  });
});

function checkBlocks(wal: Wal, count: number): void {
  assertEquals(wal.length, count);
  for (const { index, data } of wal) {
    assertEquals(data, block(9000, (index - 1) % 251));
  }
}

/** Writes into a new file until there is no byte left. */
function fillUp(folder: string): void {
  for (const size of [65536, 4096, 1]) {
    try {
      for (;;) {
        writeFileSync(join(folder, "fill"), block(size, 1), { flag: "a" });
      }
    } catch {
      // Full, for this size.
    }
  }
}

function mountTiny(path: string, bytes: number): Disposable & { path: string } {
  mkdirSync(path);
  const options = `size=${bytes},mode=777`;
  execFileSync("mount", ["-t", "tmpfs", "-o", options, "tmpfs", path]);
  return {
    path,
    [Symbol.dispose](): void {
      execFileSync("umount", ["--lazy", path]);
    },
  };
}

function canMount(): boolean {
  using folder = temporaryFolder();
  const { path } = folder;
  const mounted = spawnSync("mount", ["-t", "tmpfs", "tmpfs", path]);
  if (mounted.status !== 0) return false;
  execFileSync("umount", [path]);
  return true;
}
