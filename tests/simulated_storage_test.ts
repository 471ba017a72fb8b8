/**
 * The simulated disk, sentence by sentence: what must hold over all seeds,
 * and what must happen over some, because a crash that never loses anything
 * tests nothing.
 *
 * @module
 */

import { test } from "node:test";
import type {
  StorageDirectory,
  StorageFile,
  StorageLock,
} from "../src/storage.ts";
import { StorageError, WalLockedError } from "../src/errors.ts";
import { assert, assertEquals, assertThrows } from "./_assert.ts";
import {
  CrashNow,
  type CrashOptions,
  Random,
  type SimulatedOptions,
  SimulatedStorage,
} from "../testing/mod.ts";

const PAGE = 4096;
const SECTOR = 512;
const SEEDS = 300;

function open(storage: SimulatedStorage, create = true): StorageDirectory {
  const modes = { directoryMode: 0o700, fileMode: 0o600 };
  const directory = storage.openDirectory("wal", { create, ...modes });
  assert(directory !== undefined);
  return directory;
}

/** A quiet disk, no spontaneous writeback, with "log" synced as ones. */
function synced(
  pages: number,
  options: Partial<SimulatedOptions> = {},
): {
  storage: SimulatedStorage;
  directory: StorageDirectory;
  log: StorageFile;
} {
  const storage = new SimulatedStorage({ seed: 1, writeback: 0, ...options });
  const directory = open(storage);
  const log = directory.create("log", pages * PAGE);
  log.writeAt(filled(pages * PAGE, 1), 0);
  log.sync();
  directory.sync();
  return { storage, directory, log };
}

function filled(bytes: number, value: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes).fill(value);
}

/** Every outcome over the seeds, each once. */
function outcomes(of: (seed: number) => string, seeds = SEEDS): string[] {
  const found = new Set<string>();
  for (let seed = 1; seed <= seeds; seed++) found.add(of(seed));
  return [...found].sort();
}

/** A crash's finding of a file as one character a page. */
function pagesOf(storage: SimulatedStorage, path = "wal/log"): string {
  const bytes = storage.peek(path);
  if (bytes === undefined) return "gone";
  let text = "";
  for (let at = 0; at < bytes.length; at += PAGE) {
    const page = bytes.subarray(at, at + PAGE);
    const same = page.every((value) => value === page[0]);
    text += same ? String(page[0]) : "t";
  }
  return text;
}

function names(storage: SimulatedStorage, folder?: string): string {
  return open(storage, false).list(folder).map(({ name }) => name).sort()
    .join(" ");
}

function mapped(file: StorageFile): Uint8Array<ArrayBuffer> {
  const region = file.map();
  assert(region !== undefined);
  return region.bytes;
}

function systemCode(work: () => void): string | undefined {
  return assertThrows(work, StorageError).systemCode;
}

test("Random gives the same numbers for the same words, others else", () => {
  const draw = (...words: [number, number?]) =>
    Array.from(
      { length: 4 },
      ((random) => () => random.uint32())(
        new Random(...words),
      ),
    ).join();
  assertEquals(draw(7), draw(7));
  assertEquals(new Set([draw(7), draw(8), draw(7, 1)]).size, 3);
  const random = new Random(3);
  const counts = [0, 0, 0, 0, 0];
  for (let n = 0; n < 10_000; n++) counts[random.int(5)]!++;
  assert(counts.every((count) => Math.abs(count - 2000) < 200), `${counts}`);
  assertEquals(random.shuffle([1, 2, 3, 4]).sort(), [1, 2, 3, 4]);
  assertEquals(random.bytes(5).length, 5);
});

test("one seed gives one history", () => {
  const run = (seed: number) => {
    const { storage, log } = synced(8, { seed, writeback: 0.5 });
    for (let page = 0; page < 8; page++) log.writeAt(filled(9, 2), page * PAGE);
    const found = storage.crash();
    return `${found.seed} ${found.peek("wal/log")?.join("")}`;
  };
  assertEquals(run(5), run(5));
  assert(run(5) !== run(6));
});

test("synced bytes and synced names survive every crash", () => {
  for (const garbage of ["unsynced-sectors", "anywhere"] as const) {
    const { storage } = synced(4, { garbage });
    assertEquals(outcomes((seed) => pagesOf(storage.image({ seed }))), [
      "1111",
    ]);
  }
});

test("dirty pages are old, new or torn, each by itself", () => {
  for (const viaMap of [true, false]) {
    const { storage, log } = synced(3, { garbage: "none" });
    if (viaMap) mapped(log).fill(2);
    else log.writeAt(filled(3 * PAGE, 2), 0);
    assertEquals(storage.dirtyPages().length, 3);
    const found = outcomes((seed) => pagesOf(storage.image({ seed })), 3000);
    // 3 pages of 3 fates: all 27 combinations occur.
    assertEquals(found.length, 27, found.join(" "));
    assert(found.every((text) => /^[12t]{3}$/.test(text)), found.join(" "));
  }
});

test("a torn page is old or new by sectors of 512 bytes", () => {
  const { storage, log } = synced(1);
  log.writeAt(filled(PAGE, 2), 0);
  const seen = outcomes((seed) => {
    const page = storage.image({ seed, pages: () => "torn" }).peek("wal/log");
    assert(page !== undefined);
    let text = "";
    for (let at = 0; at < PAGE; at += SECTOR) {
      const sector = page.subarray(at, at + SECTOR);
      assert(sector.every((value) => value === sector[0]), `seed ${seed}`);
      text += sector[0];
    }
    return text;
  });
  assert(seen.length > 50 && seen.every((text) => /^[12]{8}$/.test(text)));
});

test("garbage falls on dirty sectors without synced bytes, or anywhere", () => {
  const spoilt = (options: CrashOptions) => {
    const storage = new SimulatedStorage({ seed: 1, writeback: 0 });
    const directory = open(storage);
    const log = directory.create("log", PAGE);
    // Sectors 0-2 hold synced bytes; 2 (again) to 5 are dirty, 6-7 clean.
    log.writeAt(filled(2 * SECTOR + 9, 1), 0);
    log.sync();
    directory.sync();
    log.writeAt(filled(4 * SECTOR - 9, 2), 2 * SECTOR + 9);
    const hit = new Set<number>();
    for (let seed = 1; seed <= 4000; seed++) {
      const page = storage.image({ seed, ...options }).peek("wal/log");
      for (let at = 0; at < PAGE; at++) {
        const sector = Math.floor(at / SECTOR);
        const dirty = at >= 2 * SECTOR + 9 && at < 6 * SECTOR;
        const allowed = sector < 2 || at < 2 * SECTOR + 9
          ? [1]
          : dirty
          ? [0, 2]
          : [0];
        if (!allowed.includes(page![at]!)) hit.add(sector);
      }
    }
    return [...hit].sort().join("");
  };
  assertEquals(spoilt({ garbage: "none" }), "");
  assertEquals(spoilt({}), "345");
  assertEquals(spoilt({ garbage: "anywhere" }), "2345");
});

test("a created name is lost or found until its directory is synced", () => {
  const { storage, directory } = synced(1);
  const file = directory.create("new", PAGE);
  file.writeAt(filled(PAGE, 3), 0);
  file.sync();
  const look = (seed: number) => pagesOf(storage.image({ seed }), "wal/new");
  assertEquals(outcomes(look), ["3", "gone"]);
  directory.sync();
  assertEquals(outcomes(look), ["3"]);
});

test("a rename leaves the old or the new, a removed file may be back", () => {
  const { storage, directory } = synced(1);
  for (const [name, value] of [["a", 4], ["b", 5]] as const) {
    const file = directory.create(name, PAGE);
    file.writeAt(filled(PAGE, value), 0);
    file.sync();
  }
  directory.sync();
  directory.rename("a", "b");
  directory.remove("log");
  const look = (seed: number) => {
    const found = storage.image({ seed });
    return ["log", "a", "b"].map((name) => pagesOf(found, `wal/${name}`))
      .join(" ");
  };
  assertEquals(outcomes(look), [
    "1 4 5",
    "1 gone 4",
    "gone 4 5",
    "gone gone 4",
  ]);
  directory.sync();
  assertEquals(outcomes(look), ["gone gone 4"]);
});

test("renames in a row leave the file one name", () => {
  const { storage, directory } = synced(1);
  directory.rename("log", "b");
  directory.rename("b", "c");
  const look = (seed: number) => names(storage.image({ seed }));
  assertEquals(outcomes(look), ["b", "c", "log"]);
});

test("a rename between folders never loses the file", () => {
  const { storage, directory } = synced(1);
  directory.makeFolder("cut");
  directory.sync();
  directory.rename("log", "cut/log");
  const look = (seed: number) => {
    const found = storage.image({ seed });
    return `${names(found)}: ${names(found, "cut")}`;
  };
  assertEquals(outcomes(look), ["cut log: ", "cut log: log", "cut: log"]);
  directory.sync();
  assertEquals(outcomes(look), ["cut log: ", "cut: log"]);
  directory.syncFolder("cut");
  assertEquals(outcomes(look), ["cut: log"]);
});

test("syncing only the target's folder keeps the new name, maybe both", () => {
  for (const steps of [["cut/log"], ["b", "cut/log"]]) {
    const { storage, directory } = synced(1);
    directory.makeFolder("cut");
    directory.sync();
    let name = "log";
    for (const next of steps) {
      directory.rename(name, next);
      name = next;
    }
    directory.syncFolder("cut");
    const look = (seed: number) => {
      const found = storage.image({ seed });
      return `${names(found)}: ${names(found, "cut")}`;
    };
    const both = steps.length === 1 ? [] : ["b cut: log"];
    assertEquals(outcomes(look), [...both, "cut log: log", "cut: log"]);
  }
});

test("names in a sub-folder need syncFolder, and the folder its own", () => {
  const { storage, directory } = synced(1);
  directory.makeFolder("cut");
  directory.create("cut/x", PAGE);
  const look = (seed: number) => {
    const found = storage.image({ seed });
    return names(found).includes("cut") ? `cut/${names(found, "cut")}` : "no";
  };
  assertEquals(outcomes(look), ["cut/", "cut/x", "no"]);
  directory.syncFolder("cut");
  assertEquals(outcomes(look), ["cut/x", "no"]);
  directory.sync();
  assertEquals(outcomes(look), ["cut/x"]);
});

test("the kernel writes back and commits names whenever it likes", () => {
  const look = (seed: number) => {
    const { storage, directory, log } = synced(2, { seed, writeback: 0.5 });
    directory.create("new", PAGE);
    log.writeAt(filled(2 * PAGE, 2), 0);
    for (let call = 0; call < 4; call++) directory.list();
    return `${storage.dirtyPages().length} ${storage.pendingNames().length}`;
  };
  assertEquals(outcomes(look), ["0 0", "0 1", "1 0", "1 1", "2 0", "2 1"]);
});

test("syncSoon promises what was there at the call, and only later", () => {
  const look = (seed: number) => {
    const { storage, log } = synced(3, { seed });
    log.writeAt(filled(2 * PAGE, 2), 0);
    let done = 0;
    log.syncSoon((error) => {
      assertEquals(error, undefined);
      done++;
    });
    assertEquals([done, storage.pendingSyncs], [0, 1]);
    log.writeAt(filled(PAGE, 3), 2 * PAGE);
    const lose: CrashOptions = { pages: () => "old" };
    const before = pagesOf(storage.image(lose));
    assertEquals([storage.settle(), storage.settle(), done], [1, 0, 1]);
    return `${before} ${pagesOf(storage.image(lose))}`;
  };
  assertEquals(outcomes(look), [
    "111 221",
    "121 221",
    "211 221",
    "221 221",
  ]);
});

test("random work: a sector is what was synced or written since", () => {
  for (let seed = 1; seed <= 40; seed++) {
    const { storage, log } = synced(4, { seed, garbage: "none" });
    const random = new Random(seed);
    const bytes = mapped(log);
    // What each page may hold after a power cut.
    let may: Set<number>[] = Array.from({ length: 4 }, () => new Set([1]));
    const now = () => may.map((_, page) => bytes[page * PAGE]!);
    for (let step = 2; step < 60; step++) {
      const page = random.int(4);
      const act = random.int(4);
      if (act === 0) bytes.fill(step, page * PAGE, (page + 1) * PAGE);
      if (act === 1) log.writeAt(filled(PAGE, step), page * PAGE);
      if (act < 2) may[page]!.add(step);
      if (act === 2) {
        log.sync();
        may = now().map((value) => new Set([value]));
      }
      if (act === 3 && storage.settle() === 0) {
        const promised = now();
        log.syncSoon(() => {
          // Versions count up, so what came later has a higher number.
          may = may.map((set, page) =>
            new Set([...set].filter((value) => value >= promised[page]!))
          );
        });
      }
      const found = storage.image().peek("wal/log")!;
      for (let at = 0; at < found.length; at += SECTOR) {
        const value = found[at]!;
        assert(may[Math.floor(at / PAGE)]!.has(value), storage.describe());
      }
    }
  }
});

test("pending syncs end in any order, and never after a crash", () => {
  const look = (seed: number, dies: boolean) => {
    const { storage, directory, log } = synced(1, { seed });
    let order = "";
    log.syncSoon(() => void (order += "f"));
    directory.syncSoon(() => void (order += "d"));
    if (dies) storage.crash();
    storage.settle();
    return order;
  };
  assertEquals(outcomes((seed) => look(seed, false)), ["df", "fd"]);
  assertEquals(outcomes((seed) => look(seed, true)), [""]);
});

test("a directory's syncSoon covers the names of before the call", () => {
  const { storage, directory } = synced(1);
  directory.create("a", PAGE);
  directory.syncSoon(() => {});
  directory.create("b", PAGE);
  storage.settle();
  assertEquals(storage.pendingNames(), ["create wal/b"]);
});

test("autoSettle ends syncs by itself, after the call", async () => {
  const { log } = synced(1, { autoSettle: true });
  let inside = true;
  await new Promise<void>((resolve) => {
    log.syncSoon(() => {
      assert(!inside);
      resolve();
    });
    inside = false;
  });
});

test("a failed sync forgets dirty pages but the memory keeps them", () => {
  for (const soon of [false, true]) {
    const { storage, directory, log } = synced(2);
    const bytes = mapped(log);
    bytes.fill(2);
    storage.failNext(soon ? "syncSoon" : "sync", "EIO");
    let code: string | undefined;
    if (soon) {
      log.syncSoon((error) => {
        code = error instanceof StorageError ? error.systemCode : undefined;
      });
    } else code = systemCode(() => log.sync());
    storage.settle();
    assertEquals(code, "EIO");
    // The other of the file's two descriptors is told once as well.
    if (soon) assertEquals(systemCode(() => log.sync()), "EIO");
    log.sync();
    const reopened = storage.fork();
    for (const disk of [storage, reopened]) {
      assertEquals(pagesOf(disk), "22");
      assertEquals(disk.dirtyPages(), []);
      assertEquals(outcomes((seed) => pagesOf(disk.image({ seed }))), ["11"]);
    }
    // A store of other bytes and a rewrite of the same ones make it dirty.
    bytes[0] = 9;
    assertEquals(storage.dirtyPages(), [{ path: "wal/log", page: 0 }]);
    const again = open(reopened).open("log", "write");
    again?.writeAt(filled(PAGE, 2), PAGE);
    again?.sync();
    assertEquals(pagesOf(reopened.crash()), "12");
    directory.sync();
  }
});

test("a forgotten page that was written later is like any other", () => {
  const { storage, log } = synced(1);
  const bytes = mapped(log);
  bytes.fill(2);
  storage.failNext("sync", "EIO");
  assertThrows(() => log.sync(), StorageError);
  bytes.fill(3);
  log.sync();
  bytes.fill(2);
  assertEquals(storage.dirtyPages().length, 1);
  log.sync();
  assertEquals(pagesOf(storage.crash()), "2");
});

test("a blocking sync tells of the failure of one in flight", () => {
  const look = (seed: number, own: boolean) => {
    const { storage, directory, log } = synced(1, { seed });
    const other = own ? log : directory.open("log", "write");
    log.writeAt(filled(PAGE, 2), 0);
    storage.failNext("syncSoon", "EIO");
    log.syncSoon(() => {});
    try {
      other?.sync();
    } catch {
      return "told";
    }
    return `untold ${pagesOf(storage.crash())}`;
  };
  // Untold only where the failure came later, and the page was written.
  for (const own of [true, false]) {
    assertEquals(outcomes((seed) => look(seed, own)), ["told", "untold 2"]);
  }
});

test("dropCache shows the platter's bytes of forgotten pages", () => {
  const { storage, log } = synced(2);
  log.writeAt(filled(PAGE, 2), 0);
  storage.failNext("sync", "EIO");
  assertThrows(() => log.sync(), StorageError);
  log.writeAt(filled(PAGE, 3), PAGE);
  assertEquals(pagesOf(storage), "23");
  log.dropCache();
  assertEquals(pagesOf(storage), "13");
});

test("each open file reports another's failed sync once", () => {
  const { storage, directory, log } = synced(1);
  const other = directory.open("log", "write");
  log.writeAt(filled(PAGE, 2), 0);
  storage.failNext("sync", "EIO");
  assertThrows(() => log.sync(), StorageError);
  log.sync();
  assertEquals(systemCode(() => other?.sync()), "EIO");
  other?.sync();
  directory.open("log", "write")?.sync();
});

test("kill -9 keeps the cache, and a power cut can still lose it", () => {
  const { storage, directory, log } = synced(2, { garbage: "none" });
  mapped(log).fill(2, 0, PAGE);
  directory.rename("log", "other");
  const next = storage.processDeath();
  assertEquals(names(next), "other");
  assertEquals(pagesOf(next, "wal/other"), "21");
  const look = (seed: number) => {
    const found = next.image({ seed });
    return names(found) + pagesOf(found, `wal/${names(found)}`);
  };
  const both = ["11", "21", "t1"];
  const expected = ["log", "other"].flatMap((name) =>
    both.map((pages) => name + pages)
  );
  assertEquals(outcomes(look), expected);
});

test("a dead storage refuses every call, and its stores count nowhere", () => {
  const { storage, directory, log } = synced(1);
  const bytes = mapped(log);
  const lock = directory.lock();
  const found = storage.crash();
  bytes.fill(7);
  const target = new Uint8Array(1);
  const calls: (() => unknown)[] = [
    () => log.readAt(target, 0),
    () => log.writeAt(target, 0),
    () => log.sync(),
    () => log.syncSoon(() => {}),
    () => directory.list(),
    () => directory.sync(),
    () => directory.create("x", PAGE),
    () => lock.verify(),
    () => open(storage),
  ];
  for (const call of calls) assertThrows(call, CrashNow);
  for (const end of [log, directory]) end.close();
  assertEquals(pagesOf(found), "1");
  assertEquals(pagesOf(storage.crash({ seed: 2 })), "1");
  open(found).lock().release();
});

test("a hook sees every call and stops the world at exactly one", () => {
  const { storage, directory, log } = synced(1);
  const seen: string[] = [];
  const bytes = mapped(log);
  storage.onCall(({ operation, name, count }) => {
    seen.push(`${operation} ${name}`);
    assertEquals(count, storage.callCount);
    if (operation === "remove") throw new CrashNow();
  });
  log.sync();
  bytes.fill(2);
  assertThrows(() => directory.remove("log"), CrashNow);
  assertEquals(seen, ["sync wal/log", "remove wal/log"]);
  assert(storage.dead);
  bytes.fill(3);
  const found = storage.crash({ pages: () => "new" });
  assertEquals(pagesOf(found), "2");
  assertEquals(found.pendingNames(), []);
});

test("failNext fails the calls it names, which then change nothing", () => {
  const { storage, directory, log } = synced(1);
  storage.failNext("create", "EMFILE", { after: 1, count: 2 });
  directory.create("a", PAGE);
  for (const _ of [1, 2]) {
    assertEquals(systemCode(() => directory.create("b", PAGE)), "EMFILE");
  }
  directory.create("b", PAGE);
  storage.failNext("any", "EIO", { after: 1 });
  directory.list();
  assertEquals(systemCode(() => directory.rename("a", "c")), "EIO");
  storage.failNext("any", "EACCES", { name: "log" });
  directory.list();
  assertEquals(systemCode(() => directory.remove("log")), "EACCES");
  assertEquals(names(storage), "a b log");
  storage.failNext("directorySync", "EIO");
  const pending = storage.pendingNames();
  assertEquals(systemCode(() => directory.sync()), "EIO");
  assertEquals(storage.pendingNames(), pending);
  storage.failNext("write", "ENOSPC");
  assertEquals(systemCode(() => log.writeAt(filled(9, 2), 0)), "ENOSPC");
});

test("create ends with ENOSPC when the capacity is used up", () => {
  const storage = new SimulatedStorage({ seed: 1, capacityBytes: 4 * PAGE });
  const directory = open(storage);
  const file = directory.create("a", 2 * PAGE);
  directory.create("b", PAGE + 1);
  assertEquals(systemCode(() => directory.create("c", 1)), "ENOSPC");
  assertEquals(names(storage), "a b");
  directory.remove("a");
  const code = systemCode(() => directory.create("c", 1));
  assertEquals(code, "ENOSPC", "an open file keeps its space");
  file.close();
  assertEquals(directory.create("c", 1).bytes, 1);
});

test("files are opened, read and mapped as the port says", () => {
  const { directory, log } = synced(2);
  assertEquals(directory.open("none", "read"), undefined);
  directory.makeFolder("cut");
  directory.makeFolder("cut");
  assertEquals(systemCode(() => directory.open("cut", "read")), "EISDIR");
  assertEquals(systemCode(() => directory.create("log", 1)), "EEXIST");
  assertEquals(log.readAt(new Uint8Array(PAGE), 2 * PAGE - 5), 5);
  const region = log.map();
  region!.bytes[0] = 6;
  region!.release();
  assertEquals(region!.bytes[0], 0);
  const target = new Uint8Array(1);
  log.readAt(target, 0);
  assertEquals(target[0], 6);
  log.punchHole(0, PAGE);
  log.readAt(target, 0);
  assertEquals(target[0], 0);
  assertEquals(synced(1, { mapped: false }).log.map(), undefined);
  assertEquals(directory.open("log", "read")?.map(), undefined);
  assertEquals(systemCode(() => directory.create("x", 2 ** 40)), "EFBIG");
});

test("a folder has one writer; a crash frees the lock", () => {
  const { storage, directory } = synced(1);
  const lock: StorageLock = directory.lock();
  lock.verify();
  assertThrows(() => open(storage).lock(), WalLockedError);
  const found = storage.image();
  open(found).lock();
  lock.release();
  open(storage).lock();
});

test("time passes only when asked, and timers fire in order", () => {
  const { clock } = new SimulatedStorage({ seed: 1 });
  assert(clock.nowMs() > 1_700_000_000_000);
  assert(clock.monotonicNs() < clock.monotonicNs());
  let order = "";
  const end = clock.every(10, () => void (order += "a"));
  clock.every(15, () => void (order += "b"));
  clock.advance(30);
  assertEquals(order, "abaab");
  end();
  clock.advance(15);
  assertEquals(order, "abaabb");
});

test("crash() takes the caller's choice of pages and names", () => {
  const { storage, directory, log } = synced(3);
  log.writeAt(filled(3 * PAGE, 2), 0);
  directory.create("x", PAGE);
  directory.create("y", PAGE);
  const found = storage.crash({
    pages: ({ path, page }, nth) => {
      assertEquals([path, page], ["wal/log", nth]);
      return nth === 1 ? "new" : "old";
    },
    names: (change) => change === "create wal/y",
  });
  assertEquals([pagesOf(found), names(found)], ["121", "log y"]);
});

test("found storages have seeds and random bytes of their own", () => {
  const { storage } = synced(1, { seed: 9 });
  const seeds = [9, storage.fork(9).seed, storage.image({ seed: 9 }).seed];
  assertEquals(seeds[1], seeds[2]);
  assert(seeds[0] !== seeds[1]);
  assert(storage.image().seed !== storage.image().seed);
  storage.plant("wal/log", filled(PAGE, 8));
  assertEquals(pagesOf(storage.image()), "8");
  assert(storage.describe().includes("wal/log: 4096 bytes, dirty []"));
});
