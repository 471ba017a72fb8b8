/**
 * The simulated disk, sentence by sentence: what must hold over all seeds,
 * and what must happen over some, because a crash that never loses anything
 * tests nothing.
 *
 * @module
 */

import { test } from "node:test";
import type { StorageLock } from "../src/storage.ts";
import { WalLockedError } from "../src/errors.ts";
import {
  CrashNow,
  type CrashOptions,
  Random,
  type SimulatedOptions,
  SimulatedStorage,
} from "../testing/mod.ts";
import { assert, assertEquals, assertThrows } from "./_assert.ts";
import {
  filled,
  mapped,
  names,
  openFolder,
  outcomes,
  PAGE,
  pagesOf,
  SECTOR,
  synced,
  systemCode,
} from "./_small_disk.ts";

/** Thousands of crashes take long beside other suites. */
const SLOW = { timeout: 60_000 };

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
  // The same in each runtime and version: seeds of failures stay good.
  assertEquals(draw(7, 1), "1387450123,3253788798,4050586378,4281994880");
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

test("dirty pages are old, new or torn, each by itself", SLOW, () => {
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

test(
  "garbage falls on dirty sectors without synced bytes, or anywhere",
  SLOW,
  () => {
    const spoilt = (options: CrashOptions) => {
      const storage = new SimulatedStorage({ seed: 1, writeback: 0 });
      const directory = openFolder(storage);
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
  },
);

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

test("random work: a sector is what was synced or written since", SLOW, () => {
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
    () => directory.list(),
    () => directory.sync(),
    () => directory.create("x", PAGE),
    () => lock.verify(),
    () => openFolder(storage),
  ];
  for (const call of calls) assertThrows(call, CrashNow);
  // What is told later is told to nobody: a throw would reach no program.
  let told = 0;
  for (const end of [log, directory]) end.syncSoon(() => void told++);
  assertEquals([storage.settle(), told], [0, 0]);
  for (const end of [log, directory]) end.close();
  assertEquals(pagesOf(found), "1");
  assertEquals(pagesOf(storage.crash({ seed: 2 })), "1");
  openFolder(found).lock().release();
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
  assertThrows(() => openFolder(storage).lock(), WalLockedError);
  const found = storage.image();
  openFolder(found).lock();
  lock.release();
  openFolder(storage).lock();
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

test("no timer of a dead process falls due", () => {
  const storage = new SimulatedStorage({ seed: 1 });
  let fired = 0;
  storage.clock.every(10, () => {
    if (++fired === 2) storage.crash();
  });
  storage.clock.advance(100);
  assertEquals(fired, 2);
  storage.clock.advance(100);
  assertEquals(fired, 2);
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

test("a rename may survive though the contents do not, or reverse", () => {
  const { storage, directory } = synced(1, { garbage: "none" });
  directory.create("new.tmp", PAGE).writeAt(filled(PAGE, 3), 0);
  directory.rename("new.tmp", "new");
  const look = (seed: number) => {
    const found = storage.image({ seed });
    const name = names(found).replace("log ", "").replace("log", "none");
    return `${name} ${pagesOf(found, `wal/${name}`)}`;
  };
  assertEquals(outcomes(look), [
    "new 0",
    "new 3",
    "new t",
    "new.tmp 0",
    "new.tmp 3",
    "new.tmp t",
    "none gone",
  ]);
});

test("a page of a mapping may be caught between two stores", SLOW, () => {
  const caught = (viaMap: boolean, options: CrashOptions = {}) => {
    const { storage, log } = synced(2, { garbage: "none" });
    if (viaMap) mapped(log).fill(2);
    else log.writeAt(filled(2 * PAGE, 2), 0);
    return outcomes((seed) => {
      const bytes = storage.image({ seed, ...options }).peek("wal/log")!;
      let mixed = "";
      for (let at = 0; at < bytes.length; at += SECTOR) {
        const values = [...bytes.subarray(at, at + SECTOR)].join("");
        assert(/^[12]+$/.test(values), `seed ${seed}`);
        if (/^1+2+$/.test(values)) mixed += "down ";
        else if (/^2+1+$/.test(values)) mixed += "up ";
        else if (!/^(1+|2+)$/.test(values)) mixed += "any ";
      }
      return mixed;
    });
  };
  // At most one sector a crash, in each order of the stores.
  assertEquals(caught(true), ["", "any ", "down ", "up "]);
  assertEquals(caught(false), [""]);
  assertEquals(caught(true, { pages: () => "torn" }), [""]);
});

test("what a program did not store is whole where it was caught", SLOW, () => {
  const { storage, log } = synced(1, { garbage: "none" });
  const bytes = mapped(log);
  bytes.fill(2, 100, 200);
  bytes.fill(2, 3000, 3400);
  const after = storage.peek("wal/log")!;
  const halves = new Set<number>();
  for (let seed = 1; seed <= 2000; seed++) {
    const found = storage.image({ seed }).peek("wal/log")!;
    for (let at = 0; at < PAGE; at++) {
      assert(found[at] === 1 || found[at] === after[at], `seed ${seed}`);
    }
    // Some of the words between 100 and 200, and not all.
    const kept = found.subarray(100, 200).filter((value) => value === 2);
    halves.add(kept.length);
  }
  assert(halves.size > 10, [...halves].join());
});

test("a hook that throws at an asynchronous sync is told to nobody", () => {
  const { storage, log } = synced(1);
  storage.onCall(() => {
    throw new CrashNow();
  });
  log.syncSoon(() => assert(false));
  assertEquals([storage.dead, storage.settle()], [true, 0]);
  const next = synced(1);
  next.storage.onCall(() => {
    throw new RangeError("a bug of the hook");
  });
  assertThrows(() => next.log.syncSoon(() => {}), RangeError);
});

test("two mappings of a file are one memory", () => {
  const { directory, log } = synced(1);
  const other = directory.open("log", "write");
  assert(other !== undefined);
  const first = log.map();
  const second = other.map();
  assert(first !== undefined && second !== undefined);
  first.bytes[7] = 9;
  assertEquals(second.bytes[7], 9);
  first.release();
  second.bytes[8] = 8;
  const target = new Uint8Array(2);
  log.readAt(target, 7);
  assertEquals([...target], [9, 8]);
  second.release();
  other.readAt(target, 7);
  assertEquals([...target], [9, 8]);
  assertEquals([second.bytes[7], second.bytes[8]], [0, 0]);
});

test("while a sync is under way reads go on and writes may miss it", () => {
  const look = (seed: number) => {
    const { storage, log } = synced(1, { seed });
    log.writeAt(filled(PAGE, 2), 0);
    log.syncSoon(() => {});
    const target = new Uint8Array(1);
    log.readAt(target, 0);
    assertEquals(target[0], 2);
    log.writeAt(filled(PAGE, 3), 0);
    log.readAt(target, 0);
    assertEquals(target[0], 3);
    storage.settle();
    return pagesOf(storage.image({ pages: () => "old" }));
  };
  assertEquals(outcomes(look), ["2", "3"]);
});

test("a file that nobody synced may be shorter, where the disk has it so", () => {
  const sizes = (options: Partial<SimulatedOptions>, work = "") => {
    const { storage, directory } = synced(1, options);
    const file = directory.create("new", 3 * PAGE + 100);
    directory.sync();
    if (work === "sync") file.sync();
    const pending = storage.pendingSizes().map(({ path }) => path).join();
    const found = outcomes((seed) => {
      const bytes = storage.image({ seed }).peek("wal/new")!;
      return `${bytes.length / PAGE}`;
    });
    return [pending, ...found];
  };
  const whole = `${3 + 100 / PAGE}`;
  assertEquals(sizes({}), ["wal/new", whole]);
  const short = ["0", "1", "2", "3", whole];
  assertEquals(sizes({ shortFiles: true }), ["wal/new", ...short]);
  assertEquals(sizes({ shortFiles: true }, "sync"), ["", whole]);
});

test("a hole reads as zeros, is lost or kept, and gives its space back", () => {
  const { storage, directory, log } = synced(3, {
    garbage: "none",
    capacityBytes: 3 * PAGE,
  });
  assertEquals(systemCode(() => directory.create("x", 1)), "ENOSPC");
  log.punchHole(100, 2 * PAGE - 100);
  const found = outcomes((seed) => pagesOf(storage.image({ seed })));
  assert(found.includes("111") && found.includes("t01"), found.join(" "));
  log.sync();
  assertEquals(pagesOf(storage.crash()), "t01");
  const next = synced(3, { capacityBytes: 3 * PAGE });
  next.log.punchHole(100, 2 * PAGE - 100);
  next.directory.create("x", PAGE);
  assertEquals(systemCode(() => next.directory.create("y", 1)), "ENOSPC");
});

test("who dies in a write may have done a part of it", () => {
  const { storage, log } = synced(4);
  const seen: string[][] = [];
  storage.onCall(({ operation }) => {
    if (operation !== "write") return;
    seen.push(outcomes((seed) => pagesOf(storage.fork(seed))));
    seen.push(
      outcomes((seed) =>
        pagesOf(storage.image({ seed, garbage: "none", names: () => true }))
      ),
    );
    throw new CrashNow();
  });
  assertThrows(() => log.writeAt(filled(3 * PAGE, 2), 100), CrashNow);
  const [death, power] = seen as [string[], string[]];
  assertEquals(death, ["1111", "t111", "t211", "t221", "t22t"]);
  assert(death.every((pages) => power.includes(pages)), power.join(" "));
  assert(power.includes("1121"), power.join(" "));
  // The dead disk remembers how far it was possible to come.
  assertEquals(outcomes((seed) => pagesOf(storage.fork(seed))), death);
});

test("taking images moves nothing: the rest goes as without", () => {
  const run = (images: boolean) => {
    const { storage, directory, log } = synced(4, {
      seed: 3,
      writeback: 0.3,
      autoSettle: true,
    });
    if (images) {
      storage.onCall(() => {
        storage.image({ seed: 9 });
        storage.fork(9);
      });
    }
    for (let page = 0; page < 4; page++) {
      log.writeAt(filled(PAGE, page + 2), page * PAGE);
      directory.create(`${page}`, PAGE);
    }
    const time = storage.clock.nowMs();
    return `${time} ${storage.crash({ seed: 1 }).describe()}`;
  };
  assertEquals(run(true), run(false));
});

test("crashReport says what became of what was not durable", () => {
  const { storage, directory, log } = synced(3);
  log.writeAt(filled(3 * PAGE, 2), 0);
  directory.create("x", PAGE);
  directory.create("y", PAGE);
  assertEquals(storage.crashReport, []);
  const found = storage.crash({
    pages: ({ page }) => page === 2 ? "old" : "new",
    names: (_, nth) => nth === 0,
    sizes: () => 9,
  });
  assertEquals(found.crashReport, [
    "wal/log: new page 0-1, old page 2",
    "wal/x: cut short, 9 of 4096 bytes",
    "wal/y: cut short, 9 of 4096 bytes",
    "kept: create wal/x",
    "lost: create wal/y",
  ]);
  assertEquals(found.peek("wal/x"), new Uint8Array(9));
});
