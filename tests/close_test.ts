import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import {
  openWal,
  openWalSync,
  type Wal,
  WalClosedError,
  WalFailedError,
  WalLockedError,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { RUNTIMES, temporaryFolder, THIS } from "./_storages.ts";
import {
  block,
  entries,
  isSettled,
  listFiles,
  onEach,
  onEachTwin,
  REAL,
  SEGMENT_BYTES,
  settled,
  simulatedPlace,
  texts,
  turn,
} from "./_wal.ts";

const CHILD = join(import.meta.dirname!, "_children", "idle_child.ts");

describe("Wal.close()", () => {
  onEachTwin(
    "close() twice, in any mix, has one outcome",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.append(wal, "a");
      await twin.close(wal);
      assertEquals(wal.state, "closed");
      await twin.close(wal);
      await wal.close();
      wal.closeSync();
      await wal[Symbol.asyncDispose]();
      wal[Symbol.dispose]();
      const other = await twin.open(place);
      const both = [other.close(), other.close()];
      await Promise.all(both);
      assertEquals(other.state, "closed");
    },
  );

  onEachTwin("every call after close: WalClosedError", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.appendBatch(wal, ["a", "b"]);
    await twin.close(wal);
    const rejecting = [
      () => wal.append("x"),
      () => wal.appendBatch(["x"]),
      () => wal.appendBatch([]),
      () => wal.flush(),
      () => wal.flush(1),
      () => wal.truncateAfter(1),
      () => wal.rotate(),
    ];
    for (const call of rejecting) {
      const error = await assertRejects(call, WalClosedError, place.path);
      assertStrictEquals(error.code, "CLOSED");
      assertStringIncludes(error.message, "expected");
    }
    const throwing = [
      () => wal.appendSync("x"),
      () => wal.appendBatchSync(["x"]),
      () => wal.flushSync(),
      () => wal.truncateAfterSync(1),
      () => wal.rotateSync(),
      () => wal.get(1),
      () => wal.stats(),
    ];
    for (const call of throwing) assertThrows(call, WalClosedError, place.path);
    // What a closed log was stays readable.
    assertEquals(wal.directory, place.path);
    assertEquals(wal.recovery.outcome, "created");
  });

  onEach("calls right after close() was called are refused", async (place) => {
    const wal = await place.open();
    const before = wal.append("before");
    const closing = wal.close();
    assertEquals(wal.state, "closed");
    await assertRejects(() => wal.append("after"), WalClosedError);
    assertThrows(() => wal.appendSync("after"), WalClosedError);
    assertThrows(() => wal.get(1), WalClosedError);
    assertEquals(await before, 1);
    await closing;
    using again = place.openSync();
    assertEquals(texts(again), ["before"]);
  });

  onEach(
    "appends and others pending at close() settle before it",
    async (place) => {
      const wal = await place.open();
      const order: string[] = [];
      const note = (name: string) => () => void order.push(name);
      const pending = [
        ...entries(20).map((text) => wal.append(text).then(note("append"))),
        wal.appendBatch(["a", "b"]).then(note("append")),
        wal.rotate().then(note("append")),
        wal.flush().then(note("append")),
        wal.truncateAfter(22).then(note("append")),
      ];
      await wal.close().then(note("close"));
      assertEquals(order, [...pending.map(() => "append"), "close"]);
      using again = place.openSync();
      assertEquals(texts(again), [...entries(20), "a", "b"]);
    },
  );

  it("close() waits for the syncs of the appends before it", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const append = wal.append("a");
    const closing = wal.close();
    assertFalse(await isSettled(closing));
    assertFalse(await isSettled(append));
    assertThrows(() => place.openSync(), WalLockedError);
    assertEquals(await settled(disk, append), 1);
    await settled(disk, closing);
    const again = await settled(disk, place.open());
    assertEquals(texts(again), ["a"]);
    await settled(disk, again.close());
  });

  for (const begun of [false, true]) {
    it(`after closeSync() pending appends settle, a sync ${begun ? "runs" : "waits"}`, async () => {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open());
      const pending = [wal.append("a"), wal.append("b")];
      if (begun) await turn();
      pending.push(wal.append("c"));
      wal.closeSync();
      assertEquals(wal.state, "closed");
      assertEquals(
        await settled(disk, Promise.all(pending)),
        [1, 2, 3],
      );
      const again = await settled(disk, place.open());
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(texts(again), ["a", "b", "c"]);
      await settled(disk, again.close());
    });
  }

  onEach(
    "after closeSync() pending calls of a real disk settle",
    async (place) => {
      const wal = await place.open();
      const pending = entries(50).map((text) => wal.append(text));
      await turn();
      pending.push(wal.append("last"));
      const rotated = wal.rotate();
      wal.closeSync();
      assertEquals(await Promise.all(pending), pending.map((_, i) => i + 1));
      // The rotation stands; that its promise ends somehow is enough.
      await rotated.catch(() => {});
      using again = place.openSync();
      assertEquals(texts(again), [...entries(50), "last"]);
    },
  );

  it("closeSync() while close() waits: one outcome, nothing lost", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const append = wal.append("a");
    const closing = wal.close();
    wal.closeSync();
    assertEquals(await settled(disk, append), 1);
    await settled(disk, closing);
    const again = await settled(disk, place.open());
    assertEquals(texts(again), ["a"]);
    await settled(disk, again.close());
  });

  it("a last sync that fails: close() rejects, and frees everything", async () => {
    for (const blocking of [false, true]) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open({ sync: "never" }));
      await settled(disk, wal.append("kept", { durable: true }));
      await wal.append("a");
      disk.failNext(blocking ? "sync" : "syncSoon", "EIO");
      if (blocking) {
        const first = assertThrows(() => wal.closeSync(), WalFailedError);
        const second = assertThrows(() => wal.closeSync(), WalFailedError);
        assertStrictEquals(second, first);
      } else {
        const first = await assertRejects(
          () => settled(disk, wal.close()),
          WalFailedError,
        );
        const second = await assertRejects(() => wal.close(), WalFailedError);
        assertStrictEquals(second, first);
      }
      assertEquals(wal.state, "closed");
      const again = await settled(disk, place.open());
      assertEquals(texts(again)[0], "kept");
      await settled(disk, again.close());
    }
  });

  it("a manifest that cannot be written: close() rejects, and frees everything", async () => {
    for (const blocking of [false, true]) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open());
      await settled(disk, wal.append("a"));
      disk.failNext("create", "ENOSPC");
      if (blocking) assertThrows(() => wal.closeSync(), Error, "ENOSPC");
      else {await assertRejects(
          () => settled(disk, wal.close()),
          Error,
          "ENOSPC",
        );}
      const again = await settled(disk, place.open());
      assertEquals(texts(again), ["a"]);
      await settled(disk, again.close());
    }
  });

  onEachTwin("using and await using close", async (place, twin) => {
    let kept: Wal;
    {
      await using wal = await twin.open(place);
      await twin.append(wal, "a");
      kept = wal;
    }
    assertEquals(kept.state, "closed");
    {
      using wal = await twin.open(place);
      assertEquals(wal.recovery.outcome, "clean");
      assertEquals(wal.recovery.segmentsScanned, 0);
      await twin.append(wal, "b");
      kept = wal;
    }
    assertEquals(kept.state, "closed");
    const fail = async () => {
      await using wal = await twin.open(place);
      kept = wal;
      throw new Error("mine");
    };
    await assertRejects(fail, Error, "mine");
    assertEquals(kept.state, "closed");
    using again = await twin.open(place);
    assertEquals(texts(again), ["a", "b"]);
  });

  onEachTwin(
    "opened and closed often, unchanged: no file grows or stays",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.appendBatch(wal, ["a", "b"]);
      await twin.close(wal);
      const files = listFiles(place);
      for (let i = 0; i < 10; i++) {
        const again = await twin.open(place);
        assertEquals(again.recovery.outcome, "clean");
        assertEquals(again.segments().length, 1);
        await twin.close(again);
      }
      assertEquals(listFiles(place), files);
      using last = await twin.open(place);
      assertEquals(texts(last), ["a", "b"]);
      assertEquals(last.stats().bytes, SEGMENT_BYTES);
    },
  );
});

describe("resources", () => {
  const linux = process.platform === "linux";
  const skip = linux ? false : "needs /proc/self";

  for (const one of REAL) {
    it(
      `60 opens and closes leak nothing [${one.kind}]`,
      { skip },
      async () => {
        using folder = temporaryFolder();
        const storage = one.make();
        const use = async (name: string, i: number) => {
          const path = join(folder.path, name);
          const options = { storage, segmentBytes: SEGMENT_BYTES };
          const wal = i % 2 === 0
            ? await openWal(path, options)
            : openWalSync(path, options);
          await wal.append(block(30_000, i));
          wal.appendBatchSync([block(30_000, i), "x"]);
          if (i % 5 === 0) await wal.rotate();
          if (i % 7 === 0) await wal.truncateAfter(1);
          wal.get(1);
          for (const entry of wal.entries({ reverse: true, limit: 5 })) {
            assert(entry.index > 0);
          }
          if (i % 3 === 0) await wal.close();
          else wal.closeSync();
        };
        for (let i = 0; i < 10; i++) await use("a", i);
        await turn();
        const before = {
          files: openFiles(folder.path),
          maps: maps(folder.path),
        };
        for (let i = 0; i < 30; i++) {
          await Promise.all([use("a", i), use("b", i)]);
        }
        await turn();
        assertEquals(before, { files: [], maps: [] });
        assertEquals(openFiles(folder.path), []);
        assertEquals(maps(folder.path), []);
      },
    );

    it(`open() that fails leaks nothing [${one.kind}]`, { skip }, async () => {
      using folder = temporaryFolder();
      const storage = one.make();
      const path = join(folder.path, "log");
      const options = { storage, segmentBytes: SEGMENT_BYTES };
      {
        using wal = openWalSync(path, options);
        wal.appendSync("x");
      }
      for (let i = 0; i < 20; i++) {
        await assertRejects(() =>
          openWal(path, { ...options, format: "json" })
        );
        assertThrows(() => openWalSync(path, { ...options, format: "json" }));
      }
      assertEquals(openFiles(folder.path), []);
      assertEquals(maps(folder.path), []);
      using wal = openWalSync(path, options);
      for (let i = 0; i < 20; i++) {
        await assertRejects(() => openWal(path, options), WalLockedError);
        assertThrows(() => openWalSync(path, options), WalLockedError);
      }
      // Two each: of the folder, of the segment, of what readers are shown.
      const held = openFiles(folder.path).length;
      assertLessOrEqual(held, 9);
      assertEquals(texts(wal), ["x"]);
    });

    it(
      `many segments keep few files and mappings [${one.kind}]`,
      { skip },
      async () => {
        using folder = temporaryFolder();
        const storage = one.make();
        const path = join(folder.path, "log");
        using wal = openWalSync(path, {
          storage,
          segmentBytes: SEGMENT_BYTES,
          sync: "never",
        });
        for (let i = 0; i < 100; i++) wal.appendSync(block(50_000, i));
        await wal.flush();
        assertEquals(wal.segments().length, 100);
        for (const entry of wal) assertEquals(entry.data[0], entry.index - 1);
        await turn();
        assertLessOrEqual(openFiles(folder.path).length, 20);
        assertLessOrEqual(maps(folder.path).length, 20);
      },
    );
  }

  onEach("two logs at once do not mix", async (place) => {
    const { storage } = place;
    const options = { storage, segmentBytes: SEGMENT_BYTES };
    const [a, b] = await Promise.all([
      openWal(place.path, options),
      openWal(`${place.path}-other`, options),
    ]);
    const pending: Promise<number>[] = [];
    for (let i = 1; i <= 50; i++) {
      pending.push(a.append(`a ${i}`), b.append(`b ${i}`));
      a.appendSync(block(3000, i));
    }
    await Promise.all(pending);
    assertEquals([a.length, b.length], [100, 50]);
    assertEquals(a.get(1).text(), "a 1");
    assertEquals(b.get(50).text(), "b 50");
    await a.close();
    assertEquals(await b.append("on"), 51);
    await b.close();
    const again = openWalSync(`${place.path}-other`, options);
    assertEquals(again.length, 51);
    again.closeSync();
  });
});

/** Open files below a folder, by this process; deleted ones, too. */
function openFiles(folder: string): string[] {
  const links: string[] = [];
  for (const fd of readdirSync("/proc/self/fd")) {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      if (target.startsWith(folder)) links.push(target);
    } catch {
      // The descriptor of the listing itself.
    }
  }
  return links;
}

function maps(folder: string): string[] {
  return readFileSync("/proc/self/maps", "utf8").split("\n")
    .filter((line) => line.includes(folder));
}

describe("the process", () => {
  for (const name of ["deno", "bun", "node"] as const) {
    const runtime = RUNTIMES.find((one) => one.name === name);
    const skip = runtime === undefined
      ? `no WALRUS_${name.toUpperCase()}`
      : false;
    for (const kind of ["mapped", "files", "memory"] as const) {
      for (const sync of ["always", "interval", "never"] as const) {
        it(
          `an open log lets ${name} end [${kind}, ${sync}]`,
          { skip },
          async () => {
            using folder = temporaryFolder();
            const path = join(folder.path, "log");
            const { path: executable, args } = runtime ?? THIS;
            const child = spawn(
              executable,
              [...args, CHILD, kind, sync, path],
              { stdio: ["ignore", "pipe", "inherit"] },
            );
            let output = "";
            child.stdout!.on("data", (piece) => output += piece);
            const code = await new Promise((resolve) =>
              child.once("close", resolve)
            );
            assertEquals([code, output.trim()], [0, "appended 3"]);
            if (kind === "memory") {
              assertFalse(existsSync(path));
              return;
            }
            using wal = openWalSync(path);
            assertEquals(texts(wal), ["one", "two", "three"]);
            assertEquals(wal.state, "open");
          },
        );
      }
    }
  }
});
