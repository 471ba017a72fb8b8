/**
 * The simulated disk when it refuses: failing syncs, failing writeback, the
 * Nth call, the full disk, and what users do wrong.
 *
 * @module
 */

import { test } from "node:test";
import { StorageError } from "../src/errors.ts";
import {
  CrashNow,
  type CrashOptions,
  type Operation,
  SimulatedStorage,
  simulatedStorage,
} from "../testing/mod.ts";
import { assertEquals, assertThrows, type ErrorClass } from "./_assert.ts";
import {
  filled,
  mapped,
  names,
  openFolder,
  outcomes,
  PAGE,
  pagesOf,
  synced,
  systemCode,
} from "./_small_disk.ts";

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
    const again = openFolder(reopened).open("log", "write");
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

test("dropCache takes no page from a mapping", () => {
  const { storage, log } = synced(1);
  const region = log.map()!;
  region.bytes.fill(2);
  storage.failNext("sync", "EIO");
  assertThrows(() => log.sync(), StorageError);
  log.dropCache();
  assertEquals([pagesOf(storage), region.bytes[0]], ["2", 2]);
  region.release();
  log.dropCache();
  assertEquals(pagesOf(storage), "1");
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
  const directory = openFolder(storage);
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

test("writeback that fails is told by each open file's next sync, once", () => {
  const { storage, directory, log } = synced(2, { garbage: "none" });
  const other = directory.open("log", "write")!;
  log.writeAt(filled(2 * PAGE, 2), 0);
  assertEquals(storage.failWriteback({ name: "none" }), 0);
  assertEquals(storage.failWriteback({ code: "ENOSPC" }), 2);
  assertEquals([pagesOf(storage), storage.dirtyPages().length], ["22", 0]);
  assertEquals(pagesOf(storage.image({ pages: () => "new" })), "11");
  // Nobody was told yet: who comes now is told as well.
  const late = directory.open("log", "write")!;
  assertEquals(systemCode(() => log.sync()), "ENOSPC");
  // Somebody was told: who comes now hears nothing.
  directory.open("log", "write")!.sync();
  for (const told of [other, late]) {
    assertEquals(systemCode(() => told.sync()), "ENOSPC");
    told.sync();
  }
  log.sync();
  assertEquals(pagesOf(storage.image()), "11");
});

test("writeback that failed untold is told to the next process", () => {
  const { storage, log } = synced(1);
  log.writeAt(filled(PAGE, 2), 0);
  storage.failWriteback();
  const next = storage.processDeath();
  const file = openFolder(next).open("log", "write")!;
  assertEquals(systemCode(() => file.sync()), "EIO");
  file.sync();
  // After a power cut the cache is empty, and so is its memory of errors.
  const later = next.crash();
  assertEquals(pagesOf(later), "1");
  openFolder(later).open("log", "write")!.sync();
});

test("an asynchronous sync tells of writeback that failed", () => {
  const { storage, log } = synced(1);
  log.writeAt(filled(PAGE, 2), 0);
  storage.failWriteback();
  const told: (string | undefined)[] = [];
  for (const _ of [1, 2]) {
    log.syncSoon((error) => told.push((error as StorageError)?.systemCode));
    storage.settle();
  }
  assertEquals(told, ["EIO", undefined]);
});

test("each operation can fail at its Nth call, with any error", () => {
  const acts: Record<Operation, (work: ReturnType<typeof synced>) => unknown> =
    {
      openDirectory: ({ storage }) => openFolder(storage),
      list: ({ directory }) => directory.list(),
      create: ({ directory, storage }) =>
        directory.create(`${storage.callCount}`, 1),
      open: ({ directory }) => directory.open("log", "read"),
      rename: ({ directory }) => directory.rename("log", "log"),
      remove: ({ directory }) => directory.remove("none"),
      makeFolder: ({ directory }) => directory.makeFolder("cut"),
      directorySync: ({ directory }) => directory.sync(),
      lock: ({ directory }) => directory.lock().release(),
      read: ({ log }) => log.readAt(new Uint8Array(1), 0),
      write: ({ log }) => log.writeAt(new Uint8Array(1), 0),
      map: ({ directory }) => directory.open("log", "read")!.map(),
      sync: ({ log }) => log.sync(),
      syncSoon: ({ log, storage }) => {
        let failure: unknown;
        log.syncSoon((error) => void (failure = error));
        storage.settle();
        if (failure !== undefined) throw failure;
      },
      punchHole: ({ log }) => log.punchHole(0, 1),
      dropCache: ({ log }) => log.dropCache(),
    };
  for (const [operation, act] of Object.entries(acts)) {
    const work = synced(1);
    work.storage.failNext(operation as Operation, "EMFILE", { after: 1 });
    const codes = [1, 2, 3].map(() => {
      try {
        act(work);
        return "";
      } catch (error) {
        return error instanceof StorageError && error.systemCode;
      }
    });
    // There is nothing to remove: the system says so by itself.
    const usual = operation === "remove" ? "ENOENT" : "";
    assertEquals(codes, [usual, "EMFILE", usual], operation);
  }
});

test("what cannot be mapped takes space as it is written", () => {
  const { storage, log } = synced(1, {
    mapped: false,
    capacityBytes: 4 * PAGE,
  });
  const sparse = openFolder(storage).create("sparse", 8 * PAGE);
  sparse.writeAt(filled(PAGE, 2), 4 * PAGE);
  const code = systemCode(() => sparse.writeAt(filled(3 * PAGE, 3), PAGE - 9));
  assertEquals(code, "ENOSPC");
  assertEquals(pagesOf(storage, "wal/sparse"), "t3002000");
  // A page that has its space can always be written again.
  log.writeAt(filled(PAGE, 4), 0);
  sparse.writeAt(filled(PAGE, 5), 4 * PAGE);
  openFolder(storage).remove("log");
  log.close();
  sparse.writeAt(filled(PAGE, 6), 2 * PAGE);
  assertEquals(
    systemCode(() => sparse.writeAt(filled(1, 7), 7 * PAGE)),
    "ENOSPC",
  );
});

test("syncs that lie lose what they were asked to keep", () => {
  for (const soon of [false, true]) {
    const { storage, directory, log } = synced(1, {
      honestSyncs: false,
      shortFiles: true,
    });
    if (soon) {
      for (const synced of [log, directory]) {
        synced.syncSoon((error) => assertEquals(error, undefined));
      }
      storage.settle();
    }
    const lost: CrashOptions = { pages: () => "old", names: () => true };
    assertEquals(pagesOf(storage.image({ ...lost, sizes: () => PAGE })), "0");
    assertEquals(storage.pendingSizes().length, 1);
    assertEquals(pagesOf(storage.image({ names: () => false })), "gone");
    assertEquals(pagesOf(storage.processDeath()), "1");
  }
});

test("a hook that crashes the disk ends the call it looked at", () => {
  const { storage, directory } = synced(1);
  let found: SimulatedStorage | undefined;
  storage.onCall(() => void (found = storage.crash()));
  assertThrows(() => directory.remove("log"), CrashNow, "remove");
  assertEquals(names(found!), "log");
});

test("what users do wrong is told by name, before anything happens", () => {
  const disk = () => synced(1).storage;
  const dead = disk();
  dead.crash();
  const crash = (options: unknown) => () => {
    const { storage, directory, log } = synced(1, { shortFiles: true });
    directory.create("new", PAGE);
    log.writeAt(filled(1, 2), 0);
    storage.crash(options as CrashOptions);
  };
  const fail = (...words: unknown[]) => () =>
    disk().failNext(...words as Parameters<SimulatedStorage["failNext"]>);
  const make = (options: unknown) => () => simulatedStorage(options as object);
  const wrong: [() => unknown, ErrorClass<Error>, string][] = [
    [make(null), TypeError, "options is null"],
    [make({ sed: 1 }), TypeError, '"sed" is not an option, expected seed'],
    [make({ seed: "1" }), TypeError, 'seed is "1", expected a whole number'],
    [make({ seed: 1.5 }), RangeError, "seed is 1.5"],
    [make({ seed: -1 }), RangeError, "seed is -1"],
    [make({ mapped: 1 }), TypeError, "mapped is 1, expected true or false"],
    [make({ capacityBytes: -1 }), RangeError, "capacityBytes is -1"],
    [make({ capacityBytes: NaN }), RangeError, "capacityBytes is NaN"],
    [make({ garbage: "some" }), RangeError, 'garbage is "some", expected one'],
    [make({ garbage: true }), TypeError, "garbage is true"],
    [make({ writeback: 2 }), RangeError, "writeback is 2"],
    [make({ autoSettle: null }), TypeError, "autoSettle is null"],
    [crash({ page: 1 }), TypeError, '"page" is not an option'],
    [crash({ pages: 1 }), TypeError, "pages is 1, expected a function"],
    [crash({ pages: () => "lost" }), TypeError, 'pages returned "lost"'],
    [crash({ pages: () => undefined }), TypeError, "pages returned undefined"],
    [crash({ names: () => 1 }), TypeError, "names returned 1"],
    [crash({ sizes: () => 4097 }), TypeError, "sizes returned 4097"],
    [crash({ seed: null }), TypeError, "seed is null"],
    [fail(), TypeError, "operation is undefined"],
    [fail("fsync", "EIO"), RangeError, 'operation is "fsync", expected one of'],
    [fail("sync", "io"), RangeError, 'code is "io"'],
    [fail("sync"), TypeError, "code is undefined"],
    [fail("sync", "EIO", { count: 0 }), RangeError, "count is 0"],
    [fail("sync", "EIO", { times: 2 }), TypeError, '"times" is not an option'],
    [fail("sync", "EIO", 2), TypeError, "options is 2"],
    [() => disk().failWriteback({ code: "x" }), RangeError, 'code is "x"'],
    [() => disk().onCall(1 as never), TypeError, "hook is 1"],
    [() => disk().settle(-1), RangeError, "limit is -1"],
    [() => disk().fork(-1), RangeError, "seed is -1"],
    [() => disk().clock.advance(-1), RangeError, "ms is -1"],
    [() => disk().plant("no/x", filled(1, 1)), RangeError, 'folder "no/"'],
    [() => dead.failNext("sync", "EIO"), CrashNow, "this disk has crashed"],
    [() => dead.failWriteback(), CrashNow, "this disk has crashed"],
    [() => openFolder(dead), CrashNow, "expected a call on the one that"],
  ];
  for (const [work, kind, message] of wrong) {
    assertThrows(work, kind, message);
  }
});

test("simulatedStorage() settles by itself unless told otherwise", async () => {
  const work = (storage: SimulatedStorage) => {
    const directory = openFolder(storage);
    return new Promise((resolve) => directory.syncSoon(resolve));
  };
  assertEquals(await work(simulatedStorage()), undefined);
  const storage = simulatedStorage({ autoSettle: false });
  const promise = work(storage);
  assertEquals([storage.pendingSyncs, storage.settle()], [1, 1]);
  assertEquals(await promise, undefined);
});
