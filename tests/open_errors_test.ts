import { cpSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import {
  openWal,
  openWalSync,
  StorageError,
  UnsupportedFormatError,
  type Wal,
  WalCorruptedError,
  WalError,
  WalLockedError,
} from "../mod.ts";
import { crc32 } from "../src/crc32.ts";
import {
  HEADER_BYTES,
  IDENTITY,
  IDENTITY_COPY_OFFSET,
  LINK_OFFSET,
  MANIFEST,
} from "../src/format.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
} from "./_assert.ts";
import { temporaryFolder } from "./_storages.ts";
import {
  block,
  entries,
  fingerprint,
  listFiles,
  onEach,
  onEachTwin,
  type Place,
  putBytes,
  readBytes,
  REAL,
  removeFile,
  segmentNames,
  systemFingerprint,
  texts,
  type Twin,
} from "./_wal.ts";

const MANIFEST_NAME = "manifest";

/** A closed log of 16 entries, four in each segment; the last has none. */
async function fourSegments(place: Place, twin: Twin): Promise<void> {
  const wal = await twin.open(place, { sync: "never" });
  for (let i = 1; i <= 4; i++) {
    await twin.appendBatch(wal, entries(4, 4 * i - 3));
    if (i < 4) await twin.rotate(wal);
  }
  await twin.close(wal);
}

/** Opening throws `errorClass`, twice the same, and changes nothing. */
async function refused<E extends WalError>(
  place: Place,
  twin: Twin,
  errorClass: abstract new (...args: never[]) => E,
  options?: Parameters<Twin["open"]>[1],
): Promise<E> {
  place.sound = false;
  const before = fingerprint(place);
  const error = await assertRejects(
    () => twin.open(place, options),
    errorClass as never,
  ) as E;
  assertEquals(fingerprint(place), before, "a file has changed");
  const again = await assertRejects(() => twin.open(place, options)) as E;
  assertEquals(again.message, error.message);
  assertStrictEquals(again.code, error.code);
  assertStringIncludes(error.message, "Cannot open log");
  assertStringIncludes(error.message, "expected");
  return error;
}

/** Changes a file of the log; `reseal` makes its checksum right again. */
function patch(
  place: Place,
  name: string,
  change: (bytes: Uint8Array, view: DataView) => void,
): void {
  const bytes = readBytes(place, name);
  change(bytes, new DataView(bytes.buffer));
  putBytes(place, name, bytes);
}

function resealManifest(bytes: Uint8Array, view: DataView): void {
  const crc = crc32(bytes.subarray(0, MANIFEST.crc));
  view.setUint32(MANIFEST.crc, crc, true);
}

function resealIdentity(bytes: Uint8Array, view: DataView): void {
  const crc = crc32(bytes.subarray(0, IDENTITY.crc));
  view.setUint32(IDENTITY.crc, crc, true);
  bytes.copyWithin(IDENTITY_COPY_OFFSET, 0, LINK_OFFSET);
}

describe("openWal(): the manifest", () => {
  onEachTwin(
    "a manifest that is missing: WalCorruptedError",
    async (place, twin) => {
      await fourSegments(place, twin);
      removeFile(place, MANIFEST_NAME);
      const error = await refused(place, twin, WalCorruptedError);
      assertStrictEquals(error.code, "CORRUPTED");
      assertEquals(error.segment, `${place.path}/${MANIFEST_NAME}`);
      assertStringIncludes(error.message, "missing");
    },
  );

  onEachTwin(
    "a manifest that is missing beside one used segment",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.append(wal, "mine");
      await twin.close(wal);
      removeFile(place, MANIFEST_NAME);
      const error = await refused(place, twin, WalCorruptedError);
      assertEquals(error.segment, `${place.path}/${MANIFEST_NAME}`);
    },
  );

  onEachTwin("every byte of the manifest counts", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.append(wal, "mine");
    await twin.close(wal);
    const good = readBytes(place, MANIFEST_NAME);
    for (let at = 0; at < good.length; at += place.real ? 7 : 1) {
      const bad = good.slice();
      bad[at]! ^= 1 << (at % 8);
      putBytes(place, MANIFEST_NAME, bad);
      const error = await assertRejects(() => twin.open(place), WalError);
      assert(
        error.code === "CORRUPTED" || error.code === "UNSUPPORTED_FORMAT",
        `byte ${at}: ${error}`,
      );
      assertStringIncludes(error.message, MANIFEST_NAME);
      assertEquals(readBytes(place, MANIFEST_NAME), bad);
    }
    putBytes(place, MANIFEST_NAME, good);
    using again = await twin.open(place);
    assertEquals(texts(again), ["mine"]);
  });

  onEachTwin(
    "a manifest cut short, empty, too long or foreign",
    async (place, twin) => {
      await fourSegments(place, twin);
      const good = readBytes(place, MANIFEST_NAME);
      const longer = new Uint8Array(good.length + 1);
      longer.set(good);
      const foreign = new TextEncoder().encode("manifest of another program\n");
      const bad = [
        good.slice(0, 0),
        good.slice(0, 1),
        good.slice(0, 15),
        good.slice(0, 255),
        new Uint8Array(256),
        longer,
        foreign,
      ];
      for (const bytes of bad) {
        putBytes(place, MANIFEST_NAME, bytes);
        const error = await refused(place, twin, WalCorruptedError);
        assertEquals(error.segment, `${place.path}/${MANIFEST_NAME}`);
      }
    },
  );

  onEachTwin(
    "a manifest of another size is damaged, whatever its version",
    async (place, twin) => {
      await fourSegments(place, twin);
      const longer = new Uint8Array(300);
      longer.set(readBytes(place, MANIFEST_NAME));
      new DataView(longer.buffer).setUint32(MANIFEST.version, 2, true);
      resealManifest(longer, new DataView(longer.buffer));
      for (const bytes of [longer, longer.slice(0, 200)]) {
        putBytes(place, MANIFEST_NAME, bytes);
        const error = await refused(place, twin, WalCorruptedError);
        assertEquals(error.segment, `${place.path}/${MANIFEST_NAME}`);
        assertStringIncludes(error.message, "its size");
      }
    },
  );

  onEachTwin(
    "a newer manifest: UnsupportedFormatError",
    async (place, twin) => {
      await fourSegments(place, twin);
      patch(place, MANIFEST_NAME, (bytes, view) => {
        view.setUint32(MANIFEST.version, 2, true);
        resealManifest(bytes, view);
      });
      const error = await refused(place, twin, UnsupportedFormatError);
      assertStrictEquals(error.code, "UNSUPPORTED_FORMAT");
      assertEquals(error.found, "version 2");
      assertEquals(error.supported, ["version 1"]);
      assertStringIncludes(error.message, "version 2");
    },
  );

  onEachTwin("a manifest that is a folder or a link", async (place, twin) => {
    await fourSegments(place, twin);
    const bytes = readBytes(place, MANIFEST_NAME);
    removeFile(place, MANIFEST_NAME);
    mkdirSync(join(place.path, MANIFEST_NAME));
    place.sound = false;
    await assertRejects(() => twin.open(place), StorageError, MANIFEST_NAME);
    writeFileSync(join(place.path, "elsewhere"), bytes);
    const linked = join(place.path, "..", "linked");
    cpSync(place.path, linked, {
      recursive: true,
      filter: (source) => !source.endsWith(MANIFEST_NAME),
    });
    symlinkSync("elsewhere", join(linked, MANIFEST_NAME));
    const other = { storage: place.storage };
    await assertRejects(() => openWal(linked, other), StorageError);
  }, REAL);
});

describe("openWal(): the segments", () => {
  onEachTwin(
    "a segment that is missing: WalCorruptedError with what is lost",
    async (place, twin) => {
      await fourSegments(place, twin);
      const names = segmentNames(place);
      assertEquals(names.length, 4);
      for (const [i, name] of names.entries()) {
        const bytes = readBytes(place, name);
        removeFile(place, name);
        const error = await refused(place, twin, WalCorruptedError);
        assertStrictEquals(error.code, "CORRUPTED");
        const lost = [error.firstLostIndex, error.lastLostIndex];
        // A last segment that is gone is told by the manifest.
        const missing = i === 3 ? MANIFEST_NAME : name;
        assertStringIncludes(error.message, missing);
        assertEquals(lost, [4 * i + 1, 4 * i + 4], `without ${name}`);
        putBytes(place, name, bytes);
      }
      using wal = await twin.open(place);
      assertEquals(texts(wal), entries(16));
      place.sound = true;
    },
  );

  onEachTwin("a segment of which nothing is left", async (place, twin) => {
    await fourSegments(place, twin);
    for (const name of segmentNames(place)) {
      const bytes = readBytes(place, name);
      const foreign = new TextEncoder().encode("not a segment\n".repeat(9));
      const bad = [
        new Uint8Array(0),
        bytes.slice(0, 100),
        bytes.slice(0, HEADER_BYTES),
        bytes.slice(0, bytes.length - 4096),
        new Uint8Array(bytes.length),
        foreign,
      ];
      for (const wrong of bad) {
        putBytes(place, name, wrong);
        const error = await refused(place, twin, WalCorruptedError);
        assertEquals(error.segment, `${place.path}/${name}`);
      }
      putBytes(place, name, bytes);
    }
    using wal = await twin.open(place);
    assertEquals(texts(wal), entries(16));
    place.sound = true;
  });

  onEachTwin(
    "a segment of a newer version: UnsupportedFormatError",
    async (place, twin) => {
      await fourSegments(place, twin);
      for (const name of segmentNames(place)) {
        const bytes = readBytes(place, name);
        patch(place, name, (bytes, view) => {
          view.setUint32(IDENTITY.version, 7, true);
          resealIdentity(bytes, view);
        });
        const error = await refused(place, twin, UnsupportedFormatError);
        assertEquals([error.found, error.supported], [
          "version 7",
          ["version 1"],
        ]);
        assertStringIncludes(error.message, name);
        putBytes(place, name, bytes);
      }
    },
  );

  onEachTwin(
    "a segment of another log, another number, twice the same",
    async (place, twin) => {
      await fourSegments(place, twin);
      const other = { ...place, path: `${place.path}-other` };
      const wal = await twin.name === "sync"
        ? openWalSync(other.path, {
          storage: place.storage,
          segmentBytes: 65536,
        })
        : await openWal(other.path, {
          storage: place.storage,
          segmentBytes: 65536,
        });
      await twin.append(wal, "theirs");
      await twin.close(wal);
      const [first, second] = segmentNames(place) as [string, string];
      const mine = readBytes(place, first);
      putBytes(place, first, readBytes(other, first));
      const error = await refused(place, twin, WalCorruptedError);
      assertStringIncludes(error.message, "another log");
      putBytes(place, first, readBytes(place, second));
      const swapped = await refused(place, twin, WalCorruptedError);
      assertStringIncludes(swapped.message, "segment 2");
      assertStringIncludes(swapped.message, "segment 1");
      putBytes(place, first, mine);
      using again = await twin.open(place);
      assertEquals(again.length, 16);
      place.sound = true;
    },
  );

  onEachTwin(
    "files that are not the log's stay as they are",
    async (place, twin) => {
      await fourSegments(place, twin);
      const mine = new TextEncoder().encode("notes");
      const names = [
        "notes.txt",
        "segment_1.wal",
        "segment_00000000000000000001.wal.bak",
        "segment_0000000000000000000a.wal",
        "manifest.old",
        "notes.tmp",
        "manifest.tmp",
        "segment_1.wal.tmp",
      ];
      for (const name of names) putBytes(place, name, mine);
      const wal = await twin.open(place);
      assertEquals(texts(wal), entries(16));
      await twin.append(wal, "more");
      await twin.close(wal);
      for (const name of names) assertEquals(readBytes(place, name), mine);
    },
  );

  onEachTwin(
    "a foreign file named as the next segment",
    async (place, twin) => {
      await fourSegments(place, twin);
      const mine = new TextEncoder().encode("somebody's only copy");
      putBytes(place, "segment_00000000000000000005.wal", mine);
      const error = await refused(place, twin, WalCorruptedError);
      assertStringIncludes(error.message, "segment_00000000000000000005.wal");
    },
  );

  onEachTwin(
    "residue: empty next segment and temporary files go",
    async (place, twin) => {
      await fourSegments(place, twin);
      putBytes(place, "segment_00000000000000000005.wal", new Uint8Array(0));
      putBytes(place, "segment_00000000000000000006.wal.tmp", block(100, 1));
      putBytes(place, "manifest.3.tmp", block(256, 1));
      const wal = await twin.open(place);
      assertEquals(texts(wal), entries(16));
      assertFalse(listFiles(place)!.some((name) => name.endsWith(".tmp")));
      await twin.append(wal, "more");
      await twin.rotate(wal);
      await twin.append(wal, "and more");
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(texts(again), [...entries(16), "more", "and more"]);
    },
  );
});

describe("openWal(): damage and torn tails", () => {
  /** A log whose process died: entries 1 and 2 durable, 3 and 4 not. */
  async function died(place: Place, twin: Twin): Promise<void> {
    const wal = await twin.open(place, { sync: "never" });
    await twin.append(wal, "entry 1");
    await twin.append(wal, "entry 2", { durable: true });
    await twin.append(wal, "entry 3");
    await twin.append(wal, "entry 4");
    const files = listFiles(place)!.filter((name) => !name.startsWith("LOCK"));
    const bytes = files.map((name) => readBytes(place, name));
    await twin.close(wal);
    files.forEach((name, i) => putBytes(place, name, bytes[i]!));
  }

  const frameOf = (bytes: Uint8Array, text: string) =>
    new TextDecoder("latin1").decode(bytes).indexOf(text);

  onEachTwin("an unclean end without damage is clean", async (place, twin) => {
    for (const recovery of ["strict", "tail"] as const) {
      await died(place, twin);
      const wal = await twin.open(place, { recovery });
      assertEquals(wal.recovery.outcome, "clean");
      assertGreater(wal.recovery.segmentsScanned, 0);
      assertEquals(wal.recovery.tornBytes, 0);
      assertEquals(wal.recovery.savedPath, undefined);
      assertEquals(texts(wal), entries(4));
      assertEquals(wal.durableIndex, 4);
      await twin.truncateAfter(wal, 0);
      await twin.close(wal);
      const [...names] = listFiles(place)!;
      for (const name of names) {
        if (!name.startsWith("LOCK")) removeFile(place, name);
      }
    }
  });

  onEachTwin(
    "a torn tail: strict refuses it, tail cuts and keeps it",
    async (place, twin) => {
      await died(place, twin);
      const name = segmentNames(place)[0]!;
      patch(
        place,
        name,
        (bytes) => void (bytes[frameOf(bytes, "entry 4")]! ^= 1),
      );
      const torn = readBytes(place, name);
      const strict = { recovery: "strict" } as const;
      const error = await refused(place, twin, WalCorruptedError, strict);
      assertStringIncludes(error.message, "strict");
      assertEquals(error.segment, `${place.path}/${name}`);
      assertEquals(error.firstLostIndex, 4);
      assertEquals(error.lastLostIndex, 4);
      assertGreater(error.offset, HEADER_BYTES);

      place.sound = true;
      const told: string[] = [];
      const quiet = () => {};
      const logger = {
        debug: quiet,
        info: quiet,
        warn: (message: string) => void told.push(message),
        error: quiet,
      };
      const wal = await twin.open(place, { logger });
      const { recovery } = wal;
      assertEquals(recovery.outcome, "torn");
      assertEquals(recovery.entryCount, 3);
      assertEquals(recovery.gaps, []);
      assertEquals(texts(wal), entries(3));
      assertEquals([wal.lastIndex, wal.durableIndex], [3, 3]);
      assertEquals(told.length, 1);
      assertStringIncludes(told[0]!, `${recovery.tornBytes} bytes`);
      assertStringIncludes(told[0]!, recovery.savedPath!);
      assertStringIncludes(recovery.savedPath!, `${place.path}/cut/`);
      const folder = recovery.savedPath!.slice(place.path.length + 1);
      const saved = readFolder(place, folder);
      assertEquals(saved.length, 1);
      // What was kept is what was cut, byte for byte.
      assertEquals(saved[0]!.length, recovery.tornBytes);
      const { offset } = error;
      assertEquals(saved[0], torn.slice(offset, offset + recovery.tornBytes));
      assertEquals(await twin.append(wal, "new 4"), 4);
      await twin.close(wal);
      using again = await twin.open(place, strict);
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(texts(again), [...entries(3), "new 4"]);
    },
  );

  onEachTwin("a torn batch goes as a whole", async (place, twin) => {
    const wal = await twin.open(place, { sync: "never" });
    await twin.append(wal, "entry 1", { durable: true });
    await twin.appendBatch(wal, ["batch a", "batch b", "batch c"]);
    const name = segmentNames(place)[0]!;
    const files = [name, MANIFEST_NAME];
    const bytes = files.map((file) => readBytes(place, file));
    await twin.close(wal);
    files.forEach((file, i) => putBytes(place, file, bytes[i]!));
    patch(
      place,
      name,
      (bytes) => void (bytes[frameOf(bytes, "batch c")]! ^= 1),
    );
    using again = await twin.open(place);
    assertEquals(again.recovery.outcome, "torn");
    assertEquals(texts(again), ["entry 1"]);
    assertEquals(again.nextIndex, 2);
  });

  onEachTwin(
    "damage below a durable mark: WalCorruptedError",
    async (place, twin) => {
      // Each frame carries the mark of its time: the third vouches for two.
      await died(place, twin);
      const name = segmentNames(place)[0]!;
      const good = readBytes(place, name);
      for (const [text, first] of [["entry 1", 1], ["entry 2", 2]] as const) {
        patch(place, name, (bytes) => void (bytes[frameOf(bytes, text)]! ^= 1));
        for (const recovery of ["tail", "strict"] as const) {
          const error = await refused(place, twin, WalCorruptedError, {
            recovery,
          });
          assertEquals(error.segment, `${place.path}/${name}`);
          assertEquals(error.firstLostIndex, first);
          assertEquals(error.lastLostIndex, first);
          assertGreater(error.offset, HEADER_BYTES - 1);
          assertGreater(frameOf(good, text), error.offset);
          assertStringIncludes(error.message, `${error.offset}`);
        }
        putBytes(place, name, good);
      }
      place.sound = true;
    },
  );

  onEachTwin(
    "after a clean close, damage is refused at the read",
    async (place, twin) => {
      await fourSegments(place, twin);
      const name = segmentNames(place)[0]!;
      patch(
        place,
        name,
        (bytes) => void (bytes[frameOf(bytes, "entry 2")]! ^= 1),
      );
      place.sound = false;
      const wal = await twin.open(place);
      assertEquals(wal.get(1).text(), "entry 1");
      const reads: (() => unknown)[] = [
        () => wal.get(2),
        () => wal.at(2),
        () => [...wal],
      ];
      for (const read of reads) {
        const error = await assertRejects(
          () => Promise.resolve().then<unknown>(read),
          WalError,
        ) as WalError & { index: number; segment: string; offset: number };
        assertStrictEquals(error.code, "CHECKSUM_MISMATCH");
        assertEquals([error.index, error.segment], [
          2,
          `${place.path}/${name}`,
        ]);
        assertGreater(error.offset, HEADER_BYTES - 1);
        assertStringIncludes(error.message, "expected");
      }
      assertEquals(wal.get(3).text(), "entry 3");
      await twin.close(wal);
      // Asked not to look, the log serves what is there.
      using blind = await twin.open(place, { verifyReads: false });
      assertEquals(blind.get(2).text().length, 7);
      assertFalse(blind.get(2).text() === "entry 2");
    },
  );

  function readFolder(place: Place, folder: string): Uint8Array[] {
    const inside = { ...place, path: `${place.path}/${folder}` };
    return listFiles(inside)!.map((name) => readBytes(inside, name));
  }
});

describe("openWal(): folders of others", () => {
  for (const format of ["binary", "json"]) {
    it(`a Go folder (${format}) is refused with every byte as before`, async () => {
      const source = join(
        import.meta.dirname!,
        "fixtures",
        "go",
        format,
        "log",
      );
      for (const one of REAL) {
        using folder = temporaryFolder();
        const path = join(folder.path, "log");
        cpSync(source, path, { recursive: true });
        const before = systemFingerprint(path);
        assertGreater(Object.keys(before).length, 0);
        const storage = one.make();
        const attempts = [
          () => openWal(path, { storage }),
          () => Promise.resolve().then(() => openWalSync(path, { storage })),
          () => openWal(path, { storage, format: "json" }),
          () => openWal(path, { storage, recovery: "tail" }),
        ];
        for (const attempt of attempts) {
          const error = await assertRejects(attempt, UnsupportedFormatError);
          assertStrictEquals(error.code, "UNSUPPORTED_FORMAT");
          assertEquals(error.found, `go-${format}`);
          assertGreater(error.supported.length, 0);
          assertStringIncludes(error.message, "Go");
          assertStringIncludes(error.message, "expected");
          assertEquals(systemFingerprint(path), before);
        }
      }
    });
  }

  onEachTwin(
    "a folder with a stranger's files is not touched beyond the log's",
    async (place, twin) => {
      const wal = await twin.open({ ...place });
      await twin.append(wal, "x");
      await twin.close(wal);
      putBytes(place, "readme.md", block(10, 65));
      mkdirSync(join(place.path, "sub"));
      mkdirSync(join(place.path, "segment_00000000000000000009.wal"));
      place.sound = false;
      const before = fingerprint(place);
      const error = await assertRejects(() => twin.open(place), WalError);
      assertStringIncludes(error.message, "segment_00000000000000000009.wal");
      assertEquals(fingerprint(place), before);
    },
    REAL,
  );
});

describe("openWal(): the lock", () => {
  onEachTwin(
    "a second writer in this thread: WalLockedError",
    async (place, twin) => {
      const wal: Wal = await twin.open(place);
      await twin.append(wal, "x");
      const error = await assertRejects(() => twin.open(place), WalLockedError);
      assertStrictEquals(error.code, "LOCKED");
      if (place.real) assertEquals(error.pid, process.pid);
      assertStringIncludes(error.message, place.path);
      assertStringIncludes(error.message, "expected");
      assertEquals(await twin.append(wal, "y"), 2);
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(texts(again), ["x", "y"]);
    },
  );

  onEach("two calls at once: one opens, one is refused", async (place) => {
    const calls = await Promise.allSettled([place.open(), place.open()]);
    const [opened] = calls.filter((one) => one.status === "fulfilled");
    const [failed] = calls.filter((one) => one.status === "rejected");
    assert(opened !== undefined && failed !== undefined);
    assert(failed.reason instanceof WalLockedError);
    await opened.value.append("x");
    await opened.value.close();
  });

  onEachTwin(
    "a refused open does not free the other's lock",
    async (place, twin) => {
      const wal = await twin.open(place);
      await assertRejects(() => twin.open(place), WalLockedError);
      await assertRejects(() => twin.open(place), WalLockedError);
      await assertRejects(
        () => twin.open(place, { format: "json" }),
        WalLockedError,
      );
      await twin.append(wal, "still mine");
      await twin.close(wal);
    },
  );

  onEachTwin("a failed open frees its own lock", async (place, twin) => {
    await twin.close(await twin.open(place));
    await assertRejects(
      () => twin.open(place, { format: "json" }),
      UnsupportedFormatError,
    );
    using wal = await twin.open(place);
    assertEquals(wal.state, "open");
  });
});
