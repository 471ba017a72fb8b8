/**
 * What `src/storage.ts` says, on every storage of every runtime.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { plainLooks } from "../ffi/looks.ts";
import { PosixCalls } from "../ffi/posix.ts";
import type { LibcSymbols } from "../ffi/symbols.ts";
import type { Libc } from "../ffi/types.ts";
import { StorageError } from "../src/errors.ts";
import type {
  DirectoryOptions,
  StorageDirectory,
  StorageFile,
  StoragePort,
  Syncable,
} from "../src/storage.ts";
import {
  assert,
  assertEquals,
  assertExists,
  assertGreater,
  assertGreaterOrEqual,
  assertLess,
  assertNotEquals,
  assertStringIncludes,
  assertThrows,
  fail,
} from "./_assert.ts";
import type { SimulatedStorage } from "../testing/mod.ts";
import {
  type Runtime,
  STORAGES,
  temporaryFolder,
  THIS,
  THIS_RUNTIME,
} from "./_storages.ts";

const OPTIONS: DirectoryOptions = {
  create: true,
  directoryMode: 0o750,
  fileMode: 0o640,
};
const LOOK: DirectoryOptions = { ...OPTIONS, create: false };
const PAGE = 4096;

/** Mounting a small disk takes root; what needs one is skipped without. */
const CAN_MOUNT = process.platform === "linux" && process.getuid?.() === 0 &&
  mounts();

/** Changing to nobody takes root as well. */
const CAN_BE_NOBODY = CAN_MOUNT &&
  spawnSync("setpriv", ["--version"]).status === 0;

const NO_MOUNT = CAN_MOUNT ? false : "needs root and a mountable tmpfs";
const NO_NOBODY = CAN_BE_NOBODY ? false : "needs root and setpriv";
/** How to run without FFI, and what is said of it then. */
const WITHOUT_FFI = ({
  deno: [
    [
      ["run", "--allow-read", "--allow-sys", "--no-check", "--no-prompt"],
      "FFI is not granted, expected --allow-ffi without a path",
    ],
    [
      ["run", "--allow-read", "--allow-ffi=/lib", "--no-check", "--no-prompt"],
      "FFI is not granted, expected --allow-ffi without a path",
    ],
  ],
  bun: [],
  node: [
    [
      ["--no-experimental-ffi"],
      `Node ${process.version} runs without node:ffi, expected 26.1 or newer`,
    ],
    [
      ["--permission", "--allow-fs-read=*"],
      "FFI is not permitted, expected --allow-ffi",
    ],
  ],
} satisfies Record<Runtime["name"], [string[], string][]>)[THIS_RUNTIME];

/** No disk has this much, and few file systems allow such a file. */
const TOO_LARGE = 2 ** 51;
const SPARSE_PIB = allowsHuge() ? "this file system holds any size" : false;
const NO_PROC = process.platform === "linux" ? false : "needs /proc";

/** What a test has to work with; `using` takes it away. */
class Scene implements Disposable {
  readonly storage: StoragePort;
  readonly path: string;
  readonly #temporary = temporaryFolder();
  readonly #directories: StorageDirectory[] = [];

  constructor(make: () => StoragePort) {
    this.storage = make();
    this.path = join(this.#temporary.path, "log");
  }

  /** The log's folder, made when missing. */
  get directory(): StorageDirectory {
    if (this.#directories.length === 0) {
      this.#directories.push(this.storage.openDirectory(this.path, OPTIONS)!);
    }
    return this.#directories[0]!;
  }

  [Symbol.dispose](): void {
    for (const directory of this.#directories) directory.close();
    this.#temporary[Symbol.dispose]();
  }
}

for (const { kind, real, make } of STORAGES) {
  /** A test on this storage, by the symbol it is about. */
  const contract = (
    name: string,
    body: (scene: Scene) => void | Promise<void>,
    skip: boolean | string = false,
  ): void => {
    test(`${kind}: ${name}`, { skip }, async () => {
      using scene = new Scene(make);
      await body(scene);
    });
  };

  contract("StoragePort names its kind and says if it is volatile", (scene) => {
    assertEquals(scene.storage.kind, kind);
    assertEquals(scene.storage.volatile, kind === "memory");
  });

  contract("fillRandom() fills all of a large array", ({ storage }) => {
    const a = new Uint8Array(200_000);
    const b = new Uint8Array(200_000);
    storage.fillRandom(a);
    storage.fillRandom(b);
    assertNotEquals(a, b);
    assert(a.subarray(-32).some((byte) => byte !== 0));
  });

  contract("sharedMemory() cannot be transferred away", ({ storage }) => {
    const memory = storage.sharedMemory(1000);
    if (memory === undefined) return;
    assertEquals(memory.length, 1000);
    assertThrows(() => memory.buffer.transfer());
    assertThrows(() => structuredClone(0, { transfer: [memory.buffer] }));
    assertEquals(memory.length, 1000);
  });

  contract("bootId() is 32 hex digits or empty, and stays", ({ storage }) => {
    const id = storage.bootId();
    assert(/^([0-9a-f]{32})?$/.test(id), id);
    assertEquals(storage.bootId(), id);
    // Two worlds in memory share nothing; the system's files are everybody's.
    if (kind !== "memory") assertEquals(make().bootId(), id);
    else assertNotEquals(make().bootId(), id);
    if (kind === "simulated") {
      const disk = storage as SimulatedStorage;
      assertEquals(disk.processDeath().bootId(), id);
      assertNotEquals(disk.crash().bootId(), id);
    }
  });

  contract("openDirectory() gives undefined and makes nothing", (scene) => {
    const { storage, path } = scene;
    assertEquals(storage.openDirectory(path, LOOK), undefined);
    assertEquals(storage.openDirectory(path, LOOK), undefined);
    const deep = join(path, "a", "b");
    assertEquals(storage.openDirectory(deep, LOOK), undefined);
    assertEquals(fs.existsSync(path), false);
  });

  contract("openDirectory() makes the folder with its parents", (scene) => {
    const deep = join(scene.path, "a", "b");
    const made = scene.storage.openDirectory(deep, OPTIONS)!;
    assertEquals(made.path, deep);
    assertEquals(made.list(), []);
    made.close();
    const found = scene.storage.openDirectory(deep, LOOK);
    assertExists(found);
    found.close();
    if (!real) return;
    for (const path of [scene.path, join(scene.path, "a"), deep]) {
      assertEquals(fs.statSync(path).mode & 0o777, 0o750, path);
    }
  });

  contract("openDirectory() refuses a file and what is below it", (scene) => {
    scene.directory.create("file", 8).close();
    for (const path of ["file", "file/below", "file/below/deep"]) {
      for (const options of [OPTIONS, LOOK]) {
        const error = assertThrows(
          () => scene.storage.openDirectory(join(scene.path, path), options),
          StorageError,
        );
        assertEquals(error.systemCode, "ENOTDIR", path);
      }
    }
  });

  contract("create() makes zeros of exactly that size", ({ directory }) => {
    for (const bytes of [1, PAGE, 3 * PAGE + 5]) {
      const file = directory.create(`f${bytes}`, bytes);
      assertEquals(file.name, `f${bytes}`);
      assertEquals(file.bytes, bytes);
      const target = new Uint8Array(bytes + 1).fill(7);
      assertEquals(file.readAt(target, 0), bytes);
      assert(target.subarray(0, bytes).every((byte) => byte === 0));
      assertEquals(target[bytes], 7);
      file.close();
    }
  });

  contract("create() fails if the name exists", ({ directory }) => {
    const first = directory.create("a", 16);
    first.writeAt(new Uint8Array(16).fill(1), 0);
    const error = assertThrows(() => directory.create("a", 8), StorageError);
    assertEquals(error.systemCode, "EEXIST");
    assertEquals(contentOf(directory, "a"), new Uint8Array(16).fill(1));
    first.close();
  });

  contract("create() leaves nothing when it fails", ({ directory }) => {
    const error = assertThrows(
      () => directory.create("a", TOO_LARGE),
      StorageError,
    );
    assertEquals(error.operation, "create");
    assertExists(error.systemCode);
    assertEquals(directory.list(), []);
  }, kind === "simulated" ? "has no limit but its capacity" : SPARSE_PIB);

  contract("open() gives undefined for what is not there", (scene) => {
    scene.directory.makeFolder("sub");
    for (const access of ["read", "write"] as const) {
      assertEquals(scene.directory.open("a", access), undefined);
      assertEquals(scene.directory.open("sub/a", access), undefined);
    }
  });

  contract("open() gives name and size", ({ directory }) => {
    directory.create("a", 300).close();
    for (const access of ["read", "write"] as const) {
      const file = directory.open("a", access)!;
      assertEquals([file.name, file.bytes], ["a", 300]);
      file.close();
    }
  });

  contract("open() refuses a folder", ({ directory }) => {
    directory.makeFolder("sub");
    for (const access of ["read", "write"] as const) {
      const error = assertThrows(
        () => directory.open("sub", access),
        StorageError,
      );
      assertEquals(error.systemCode, "EISDIR");
    }
  });

  contract("readAt() reads less only at the end", ({ directory }) => {
    const file = directory.create("a", 100);
    file.writeAt(Uint8Array.from({ length: 100 }, (_, i) => i), 0);
    const target = new Uint8Array(10);
    assertEquals(file.readAt(target, 90), 10);
    assertEquals(target[9], 99);
    assertEquals(file.readAt(target, 95), 5);
    assertEquals(target[4], 99);
    assertEquals(file.readAt(target, 100), 0);
    assertEquals(file.readAt(target, 10_000), 0);
    assertEquals(file.readAt(target.subarray(3, 5), 50), 2);
    assertEquals([target[2], target[3], target[4]], [97, 50, 51]);
    assertEquals(file.readAt(new Uint8Array(0), 3), 0);
    file.close();
  });

  contract("writeAt() is seen by another opening at once", (scene) => {
    const file = scene.directory.create("a", 64);
    const reader = scene.directory.open("a", "read")!;
    file.writeAt(new Uint8Array([1, 2, 3, 4]).subarray(1, 3), 62);
    const target = new Uint8Array(2);
    reader.readAt(target, 62);
    assertEquals(target, new Uint8Array([2, 3]));
    reader.close();
    file.close();
  });

  contract("map() and writeAt() see each other", ({ directory }) => {
    const file = directory.create("a", 2 * PAGE + 100);
    const region = file.map();
    assertEquals(region === undefined, kind === "files");
    if (region === undefined) return;
    assertEquals(region.bytes.length, file.bytes);
    region.bytes[PAGE] = 5;
    const target = new Uint8Array(2);
    file.readAt(target, PAGE);
    assertEquals(target[0], 5);
    file.writeAt(new Uint8Array([6]), PAGE + 1);
    assertEquals(region.bytes[PAGE + 1], 6);
    file.close();
    // The region outlives the file.
    region.bytes[0] = 9;
    assertEquals(contentOf(directory, "a")[0], 9);
    region.release();
  });

  contract("release() makes late accesses harmless", ({ directory }) => {
    const file = directory.create("a", 4 * PAGE);
    const region = file.map();
    if (region === undefined) return file.close();
    const late = region.bytes.subarray(PAGE, 2 * PAGE);
    late.fill(3);
    region.release();
    assert(late.every((byte) => byte === 0));
    late.fill(4);
    assertEquals(contentOf(directory, "a")[PAGE], 3);
    file.writeAt(new Uint8Array([8]), PAGE);
    assertEquals(late[0], 4);
    file.close();
  });

  contract("map() of a reader never writes to the file", ({ directory }) => {
    const file = directory.create("a", 2 * PAGE);
    const writer = file.map();
    const reader = directory.open("a", "read")!;
    const region = reader.map();
    if (writer !== undefined && region !== undefined) {
      writer.bytes[0] = 1;
      assertEquals(region.bytes[0], 1);
      region.bytes[1] = 2;
      assertEquals(writer.bytes[1], 0);
      assertEquals(contentOf(directory, "a")[1], 0);
    } else {
      assert(kind !== "mapped");
    }
    region?.release();
    writer?.release();
    reader.close();
    file.close();
  }, kind === "simulated" ? "has no private mappings" : false);

  const syncables: [string, (d: StorageDirectory) => Syncable][] = [
    ["a file", (directory) => directory.create("a", PAGE)],
    ["the folder", (directory) => directory],
  ];
  for (const [name, pick] of syncables) {
    contract(`syncSoon() of ${name} calls later, and once`, async (scene) => {
      const syncable = pick(scene.directory);
      const calls: unknown[] = [];
      let inside = true;
      const done = Promise.withResolvers<void>();
      syncable.syncSoon((error) => {
        assert(!inside, "called inside the call");
        calls.push(error);
        done.resolve();
      });
      // Beside a blocking one.
      syncable.sync();
      inside = false;
      await done.promise;
      await sleep(1);
      assertEquals(calls, [undefined]);
      // And again, once the first has ended.
      await syncedSoon(syncable);
    });
  }

  contract("close() lets a sync end that is outstanding", async (scene) => {
    const files = Array.from({ length: 8 }, (_, i) => {
      const file = scene.directory.create(`f${i}`, 16 * PAGE);
      file.writeAt(new Uint8Array(16 * PAGE).fill(i), 0);
      return file;
    });
    const syncs = files.map((file) => {
      const synced = syncedSoon(file);
      file.close();
      return synced;
    });
    // These get the numbers that the closed ones had.
    const others = files.map((_, i) => scene.directory.create(`g${i}`, 1));
    await Promise.all(syncs);
    for (const other of others) other.close();
  });

  contract("rename() replaces the target", ({ directory }) => {
    directory.create("old", 8).close();
    const before = directory.open("old", "read")!;
    const file = directory.create("new.tmp", 16);
    directory.rename("new.tmp", "old");
    directory.sync();
    assertEquals(file.name, "new.tmp");
    assertEquals(directory.list(), [{ name: "old", kind: "file" }]);
    assertEquals(contentOf(directory, "old").length, 16);
    assertEquals(before.readAt(new Uint8Array(20), 0), 8);
    before.close();
    file.close();
    const error = assertThrows(
      () => directory.rename("missing", "old"),
      StorageError,
    );
    assertEquals(error.systemCode, "ENOENT");
  });

  contract("remove() leaves open files and mappings good", (scene) => {
    const { directory } = scene;
    const file = directory.create("a", 2 * PAGE);
    const region = file.map();
    file.writeAt(new Uint8Array([7]), PAGE);
    directory.remove("a");
    assertEquals(directory.list(), []);
    const target = new Uint8Array(1);
    file.readAt(target, PAGE);
    assertEquals(target[0], 7);
    if (region !== undefined) assertEquals(region.bytes[PAGE], 7);
    region?.release();
    file.close();
    const error = assertThrows(() => directory.remove("a"), StorageError);
    assertEquals(error.systemCode, "ENOENT");
  });

  contract("sub-folders hold files of their own", ({ directory }) => {
    directory.makeFolder("cut");
    directory.makeFolder("cut");
    directory.create("a", 8).close();
    directory.create("cut/b", 8).close();
    directory.rename("a", "cut/a");
    directory.syncFolder("cut");
    assertEquals(directory.list(), [{ name: "cut", kind: "directory" }]);
    assertEquals(
      directory.list("cut").map(({ name }) => name).sort(),
      ["a", "b"],
    );
    directory.remove("cut/a");
    assertEquals(directory.list("cut"), [{ name: "b", kind: "file" }]);
  });

  contract("sub-folders that are none are refused", ({ directory }) => {
    directory.create("file", 8).close();
    assertThrows(() => directory.makeFolder("file"), StorageError);
    assertThrows(() => directory.syncFolder("file"), StorageError);
    assertThrows(() => directory.syncFolder("missing"), StorageError);
    assertThrows(() => directory.list("missing"), StorageError);
    assertThrows(() => directory.create("missing/a", 8), StorageError);
    assertThrows(() => directory.create("file/a", 8), StorageError);
  });

  contract("punchHole() zeroes at most the range", ({ directory }) => {
    const file = directory.create("a", 16 * PAGE);
    file.writeAt(new Uint8Array(16 * PAGE).fill(1), 0);
    file.punchHole(4 * PAGE, 8 * PAGE);
    const content = contentOf(directory, "a");
    const inside = content.subarray(4 * PAGE, 12 * PAGE);
    const value = kind === "files" ? 1 : 0;
    assert(inside.every((byte) => byte === value));
    assertEquals(
      content.reduce((sum, byte) => sum + byte, 0),
      (8 + 8 * value) * PAGE,
    );
    file.close();
  });

  contract(
    "mapForGood() gives memory of its own, or leaves the file",
    (scene) => {
      const { directory } = scene;
      const source = new Uint8Array(3 * PAGE).map((_, i) => i % 251);
      const writer = directory.create("a", source.length);
      writer.writeAt(source, 0);
      const file = directory.open("a", "read")!;
      const memory = file.mapForGood();
      assertEquals(memory !== undefined, kind === "mapped");
      if (memory === undefined) {
        assertEquals(contentOf(directory, "a"), source);
        const target = new Uint8Array(8);
        assertEquals(file.readAt(target, 0), 8, "the file is as before");
        assertEquals(target, source.slice(0, 8));
        file.close();
        writer.close();
        return;
      }
      assertEquals(memory, source);
      // A store stays in this process.
      memory.fill(7, PAGE, 2 * PAGE);
      assertEquals(contentOf(directory, "a"), source);
      assertEquals(memory[PAGE], 7);
      // It outlives the file's name, and all that was open of it.
      directory.remove("a");
      writer.close();
      assertEquals(memory.subarray(0, PAGE), source.slice(0, PAGE));
      assertEquals(memory[PAGE], 7);
      assertEquals(memory.subarray(2 * PAGE), source.slice(2 * PAGE));
    },
  );

  contract("dropCache() loses nothing", ({ directory }) => {
    const file = directory.create("a", 4 * PAGE);
    file.writeAt(new Uint8Array(4 * PAGE).fill(1), 0);
    file.dropCache();
    assertEquals(contentOf(directory, "a"), new Uint8Array(4 * PAGE).fill(1));
    file.close();
  });

  contract("the lock has one holder at a time", ({ directory }) => {
    const lock = directory.lock();
    lock.verify();
    assertThrows(() => directory.lock(), Error, "Cannot lock");
    lock.release();
    const again = directory.lock();
    again.verify();
    again.release();
  });

  contract("Clock tells whole milliseconds and never goes back", (scene) => {
    const { clock } = scene.storage;
    assert(Number.isSafeInteger(clock.nowMs()));
    assertGreater(clock.nowMs(), Date.UTC(2020));
    const first = clock.monotonicNs();
    assertGreaterOrEqual(clock.monotonicNs(), first);
  });

  contract("Clock.every() repeats until it is ended", async (scene) => {
    let count = 0;
    const ended = Promise.withResolvers<void>();
    const end = scene.storage.clock.every(1, () => {
      count++;
      if (count === 3) {
        end();
        ended.resolve();
      }
    });
    // Keeps the process alive, as the other timer does not.
    const alive = setInterval(() => {}, 1000);
    await ended.promise;
    await sleep(10);
    clearInterval(alive);
    assertEquals(count, 3);
  }, kind === "simulated" ? "its time is moved by hand" : false);

  if (!real) continue;

  contract("create() gives new files their mode", (scene) => {
    scene.directory.create("a", 8).close();
    const { mode } = fs.statSync(join(scene.path, "a"));
    assertEquals(mode & 0o777, 0o640);
  });

  contract("create() does not follow a symbolic link", (scene) => {
    const { directory, path } = scene;
    fs.symlinkSync(join(path, "elsewhere"), join(path, "a"));
    const error = assertThrows(() => directory.create("a", 8), StorageError);
    assertEquals(error.systemCode, "EEXIST");
    assertEquals(fs.existsSync(join(path, "elsewhere")), false);
  });

  contract("open() refuses links, FIFOs and sockets", async (scene) => {
    const { directory, path } = scene;
    directory.create("file", 8).close();
    fs.symlinkSync("file", join(path, "link"));
    fs.symlinkSync("nowhere", join(path, "dangling"));
    assertEquals(spawnSync("mkfifo", [join(path, "fifo")]).status, 0);
    const server = createServer().listen(join(path, "socket"));
    await new Promise((resolve) => server.once("listening", resolve));
    const found = { link: "link", dangling: "link", fifo: "FIFO" };
    for (const [name, text] of Object.entries({ ...found, socket: "socket" })) {
      for (const access of ["read", "write"] as const) {
        const error = assertThrows(
          () => directory.open(name, access),
          StorageError,
          text,
        );
        assertStringIncludes(error.message, "expected a regular file");
        assertEquals(error.path, join(path, name));
      }
    }
    const kinds = directory.list().map(({ kind }) => kind).sort();
    assertEquals(kinds, ["file", "other", "other", "other", "other"]);
    await new Promise((resolve) => server.close(resolve));
  });

  contract("every descriptor is given back", async (scene) => {
    const { storage, path } = scene;
    scene.directory.create("a", PAGE).close();
    const before = descriptorsBelow(path);
    for (let i = 0; i < 20; i++) {
      const directory = storage.openDirectory(path, OPTIONS)!;
      directory.lock().release();
      const lock = directory.lock();
      assertThrows(() => directory.lock());
      lock.release();
      const reader = directory.open("a", "read")!;
      const file = directory.open("a", "write")!;
      assertThrows(() => directory.create("a", PAGE), StorageError);
      const synced = [syncedSoon(file), syncedSoon(directory)];
      file.close();
      reader.close();
      directory.close();
      await Promise.all(synced);
    }
    assertEquals(descriptorsBelow(path), before);
  }, NO_PROC);

  contract(
    "close() beside a sync frees no number that it still needs",
    async (scene) => {
      const file = scene.directory.create("a", PAGE);
      file.writeAt(new Uint8Array(PAGE).fill(1), 0);
      const synced = syncedSoon(file);
      file.close();
      // These get every number that is free by now.
      const others = ["b", "c", "d"].map((name) =>
        scene.directory.create(name, PAGE)
      );
      await synced;
      for (const other of others) {
        other.writeAt(new Uint8Array(PAGE).fill(2), 0);
        other.sync();
        other.close();
      }
    },
  );

  contract("a full disk is an error of each call", (scene) => {
    using disk = smallDisk(scene, 256 * 1024);
    const directory = scene.storage.openDirectory(disk.path, OPTIONS)!;
    if (kind === "mapped") {
      const error = assertThrows(
        () => directory.create("a", 1 << 20),
        StorageError,
        "no space left on the device (ENOSPC)",
      );
      assertEquals(error.systemCode, "ENOSPC");
      assertEquals(error.path, join(disk.path, "a"));
      // And the space is back.
      directory.create("b", 128 * 1024).close();
    } else {
      const file = directory.create("a", 1 << 20);
      const error = assertThrows(
        () => file.writeAt(new Uint8Array(1 << 20), 0),
        StorageError,
      );
      assertEquals(error.systemCode, "ENOSPC");
      assertEquals(error.operation, "write");
      file.close();
    }
    directory.close();
  }, NO_MOUNT);

  contract("opening and writing without permission is an error", (scene) => {
    scene.directory.create("a", 8).close();
    fs.chmodSync(join(scene.path, ".."), 0o755);
    fs.chmodSync(scene.path, 0o700);
    assertEquals(
      asNobody(kind, scene.path),
      `open ${scene.path} EACCES`,
    );
    // May be listed, not entered.
    fs.chmodSync(scene.path, 0o744);
    assertEquals(asNobody(kind, scene.path), `open ${scene.path} EACCES`);
    fs.chmodSync(scene.path, 0o755);
    fs.chmodSync(join(scene.path, "a"), 0o600);
    assertEquals(
      asNobody(kind, scene.path),
      `open ${join(scene.path, "a")} EACCES`,
    );
    fs.chmodSync(join(scene.path, "a"), 0o666);
    assertEquals(
      asNobody(kind, scene.path),
      `create ${join(scene.path, "b")} EACCES`,
    );
    fs.chmodSync(scene.path, 0o777);
    assertEquals(asNobody(kind, scene.path), "ok");
  }, NO_NOBODY);

  contract(
    "watch() tells of writes by others, until it is ended",
    async (scene) => {
      const { directory } = scene;
      directory.create("a", PAGE).close();
      let calls = 0;
      const unwatch = directory.watch("a", () => calls++);
      assertEquals(unwatch !== undefined, real);
      // Whether it says so at once is the runtime's.
      directory.watch("not there", () => {})?.();
      if (unwatch === undefined) return;
      const other = scene.storage.openDirectory(scene.path, LOOK)!;
      const file = other.open("a", "write")!;
      for (let turn = 1; turn <= 3; turn++) {
        const before = calls;
        // A hint: a call may be missing, not all of them.
        for (let i = 0; i < 1000 && calls === before; i++) {
          file.writeAt(new Uint8Array([turn]), 0);
          await sleep(5);
        }
        assertGreater(calls, before, "nobody was told");
      }
      unwatch();
      // What was on its way may still come, once.
      await sleep(20);
      const before = calls;
      for (let i = 0; i < 5; i++) {
        file.writeAt(new Uint8Array([0]), 0);
        await sleep(5);
      }
      assertEquals(calls, before, "told after its end");
      unwatch();
      file.close();
      other.close();
    },
  );

  contract("timers and storages do not keep a process alive", (scene) => {
    const result = runChild(`
      const storage = make("${kind}");
      const directory = storage.openDirectory(${text(scene.path)}, OPTIONS);
      directory.lock();
      directory.create("a", 4096).map();
      directory.watch("a", () => {});
      storage.clock.every(10 ** 9, () => {});
      console.log("ok");
    `);
    assertEquals(result, "ok");
  });

  if (kind !== "mapped") continue;

  contract("map() allocates what a sparse file lacks", (scene) => {
    using disk = smallDisk(scene, 256 * 1024);
    const files = STORAGES.find(({ kind }) => kind === "files")!.make();
    const plain = files.openDirectory(disk.path, OPTIONS)!;
    const small = plain.create("small", 64 * 1024);
    small.writeAt(new Uint8Array([1, 2, 3]), 5000);
    small.close();
    plain.create("large", 1 << 20).close();
    plain.close();
    const directory = scene.storage.openDirectory(disk.path, OPTIONS)!;
    const large = directory.open("large", "write")!;
    const error = assertThrows(() => large.map(), StorageError);
    assertEquals(error.systemCode, "ENOSPC");
    large.close();
    directory.remove("large");
    const file = directory.open("small", "write")!;
    const region = file.map()!;
    fillDisk(directory);
    // Without its space, this would be the end of the process.
    assertEquals(region.bytes[5001], 2);
    region.bytes.fill(1);
    assertEquals(contentOf(directory, "small")[60_000], 1);
    region.release();
    file.close();
    directory.close();
  }, NO_MOUNT);

  contract("create() really allocates the space", (scene) => {
    using disk = smallDisk(scene, 256 * 1024);
    const directory = scene.storage.openDirectory(disk.path, OPTIONS)!;
    const file = directory.create("a", 128 * 1024);
    const region = file.map()!;
    fillDisk(directory);
    region.bytes.fill(1);
    assertEquals(contentOf(directory, "a")[100_000], 1);
    region.release();
    file.close();
    directory.close();
  }, NO_MOUNT);

  contract("punchHole() gives the space back", ({ directory, path }) => {
    const file = directory.create("a", 64 * PAGE);
    file.sync();
    const before = fs.statSync(join(path, "a")).blocks;
    file.punchHole(0, 64 * PAGE);
    assertLess(fs.statSync(join(path, "a")).blocks, before);
    assertEquals(fs.statSync(join(path, "a")).size, 64 * PAGE);
    file.close();
  });

  contract("punchHole() spares what mapForGood() shows", async (scene) => {
    const { directory, path } = scene;
    const bytes = 64 * PAGE;
    const file = directory.create("a", bytes);
    file.writeAt(new Uint8Array(bytes).fill(9), 0);
    file.sync();
    const blocks = () => fs.statSync(join(path, "a")).blocks;
    const before = blocks();
    assertEquals(punchBeside(directory, file, bytes), before);
    // When nobody reaches the memory any more, a hole can be punched.
    for (let i = 0; i < 500 && blocks() === before; i++) {
      await collectGarbage();
      file.punchHole(0, bytes);
    }
    assertLess(blocks(), before);
    assertEquals(contentOf(directory, "a"), new Uint8Array(bytes));
    assertEquals(mappingsBelow(path), 0);
    file.close();

    /** The file's blocks after holes beside a view and its views. */
    function punchBeside(
      directory: StorageDirectory,
      file: StorageFile,
      bytes: number,
    ): number {
      const memory = directory.open("a", "read")!.mapForGood()!;
      const again = directory.open("a", "read")!.mapForGood()!;
      const view = memory.subarray(PAGE, 2 * PAGE).subarray(8);
      file.punchHole(0, bytes);
      assert(view.every((byte) => byte === 9), "a hole shows");
      assert(again.every((byte) => byte === 9), "a hole shows");
      assertEquals(contentOf(directory, "a")[PAGE], 9);
      return blocks();
    }
  }, NO_PROC);

  contract("release() frees the file at once", ({ directory, path }) => {
    const file = directory.create("a", PAGE);
    const region = file.map()!;
    assertEquals(mappingsBelow(path), 1);
    region.release();
    assertEquals(mappingsBelow(path), 0);
    file.close();
  }, NO_PROC);

  contract("a dropped mapping is unmapped, a view keeps it", async (scene) => {
    const { directory, path } = scene;
    const kept = mapAndDrop(directory, 50);
    assertEquals(mappingsBelow(path), 50);
    for (let i = 0; i < 500 && mappingsBelow(path) > 1; i++) {
      await collectGarbage();
    }
    assertEquals(mappingsBelow(path), 1);
    assertEquals(kept[7], 1);
  }, NO_PROC);
}

test("defaultStorage() is mapped only where FFI is to be had", () => {
  const body = `
    const storage = ffi.defaultStorage();
    try {
      console.log(storage.kind, ffi.mappedStorage().kind);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      console.log(storage.kind, error.message);
    }
  `;
  for (const [args, printed] of WITHOUT_FFI) {
    assertEquals(
      runChild(body, { args }),
      `files Cannot map files: ${printed}`,
    );
  }
  const best = STORAGES[0]!.kind;
  assertStringIncludes(runChild(body), best);
});

test("Deno: grants for the folder alone suffice, and nobody is asked", {
  skip: THIS_RUNTIME === "deno" ? false : "not Deno",
}, () => {
  using folder = temporaryFolder();
  const path = join(folder.path, "new", "log");
  const link = join(folder.path, "link");
  fs.symlinkSync(join(path, "a"), link);
  const body = `
    const storage = ffi.defaultStorage();
    const directory = storage.openDirectory(${text(path)}, OPTIONS);
    const lock = directory.lock();
    try {
      directory.lock();
    } catch (error) {
      console.log(storage.kind, error.code);
    }
    directory.create("a", 8).close();
    directory.rename("a", "b");
    directory.open("b", "write").close();
    try {
      directory.open("link", "read");
    } catch (error) {
      console.log(error.systemCode);
    }
    directory.remove("b");
    lock.verify();
    lock.release();
    directory.sync();
  `;
  const grants = ["read", "write"].map((verb) =>
    `--allow-${verb}=${join(folder.path, "new")}`
  );
  for (const [ffi, kind] of [["--allow-ffi", "mapped"], ["", "files"]]) {
    const args = ["run", "--no-check", "--no-prompt", ...grants, ffi!];
    fs.mkdirSync(join(folder.path, "new", "log"), { recursive: true });
    // Inside of what is granted Deno follows links, whatever the flags.
    fs.symlinkSync("b", join(path, "link"));
    const printed = runChild(body, { args: args.filter((arg) => arg !== "") });
    assertEquals(printed, `${kind} LOCKED\nELOOP`);
    fs.rmSync(join(folder.path, "new"), { recursive: true });
    fs.mkdirSync(join(folder.path, "new"));
    // And where the folder has to be made.
    const made = runChild(body.replace('"link", "read"', '"c/d/e", "read"'), {
      args: args.filter((arg) => arg !== ""),
    });
    assertStringIncludes(made, `${kind} LOCKED`);
    fs.rmSync(join(folder.path, "new"), { recursive: true });
  }
});

/** Only the calls that a test is about; `results` are errno, 0 for success. */
function fakeLibc(results: number[]): { libc: Libc; calls: number[][] } {
  const calls: number[][] = [];
  let errno = 0;
  const symbols = {
    fallocate: (...values: (number | bigint)[]): number => {
      calls.push(values.map(Number));
      errno = results.shift() ?? 0;
      return errno === 0 ? 0 : -1;
    },
    flock: (): number => 0,
  } as unknown as LibcSymbols;
  return {
    libc: {
      symbols,
      looks: plainLooks,
      errno: (): number => errno,
      own: (): ArrayBuffer => fail("nothing is mapped"),
    },
    calls,
  };
}

test("PosixCalls.allocate() tries again when a signal came", () => {
  const { libc, calls } = fakeLibc([4, 4, 0]);
  new PosixCalls(libc).allocate(7, 100);
  assertEquals(calls, [[7, 0, 0, 100], [7, 0, 0, 100], [7, 0, 0, 100]]);
});

test("PosixCalls.allocate() writes zeros where it cannot allocate", () => {
  for (const errno of [95, 38]) {
    using folder = temporaryFolder();
    const path = join(folder.path, "a");
    const fd = fs.openSync(path, "w+");
    const { libc } = fakeLibc([errno, errno]);
    const calls = new PosixCalls(libc);
    const bytes = 5 * PAGE + 10;
    calls.allocate(fd, bytes);
    assertEquals(fs.fstatSync(fd).size, bytes);
    assertGreaterOrEqual(fs.fstatSync(fd).blocks * 512, bytes);
    // A sparse one keeps what is in it.
    fs.ftruncateSync(fd, 0);
    fs.ftruncateSync(fd, bytes);
    fs.writeSync(fd, new TextEncoder().encode("text"), 0, 4, 2 * PAGE - 2);
    calls.allocate(fd, bytes);
    assertGreaterOrEqual(fs.fstatSync(fd).blocks * 512, bytes);
    fs.closeSync(fd);
    const content = fs.readFileSync(path, "latin1");
    assertEquals(content.length, bytes);
    assertEquals(content.replaceAll("\0", ""), "text");
    assertEquals(content.indexOf("text"), 2 * PAGE - 2);
  }
});

test("PosixCalls.punchHole() is a hint: not every file system can", () => {
  const calls = new PosixCalls(fakeLibc([95, 5]).libc);
  calls.punchHole(7, 0, 100);
  assertThrows(() => calls.punchHole(7, 0, 100), Error, "fallocate: EIO");
});

/** Maps files, drops all but a view of a view of the first. */
function mapAndDrop(
  directory: StorageDirectory,
  count: number,
): Uint8Array<ArrayBuffer> {
  const views = Array.from({ length: count }, (_, i) => {
    const file = directory.create(`f${i}`, 16 * PAGE);
    const { bytes } = file.map()!;
    bytes.fill(1);
    file.close();
    return bytes.subarray(PAGE).subarray(0, 8);
  });
  return views[0]!;
}

/** Makes the collector run, without a flag of any runtime. */
async function collectGarbage(): Promise<void> {
  const { Bun, gc } = globalThis as {
    Bun?: { gc(force: boolean): void };
    gc?: () => void;
  };
  Bun?.gc(true);
  gc?.();
  for (let i = 0; i < 20; i++) new ArrayBuffer(1 << 20);
  await sleep(1);
}

/** How many mappings of files below a folder this process has. */
function mappingsBelow(path: string): number {
  const maps = fs.readFileSync("/proc/self/maps", "utf8");
  return maps.split("\n").filter((line) => line.includes(path)).length;
}

function contentOf(
  directory: StorageDirectory,
  name: string,
): Uint8Array<ArrayBuffer> {
  const file: StorageFile = directory.open(name, "read")!;
  const target = new Uint8Array(file.bytes);
  assertEquals(file.readAt(target, 0), file.bytes);
  file.close();
  return target;
}

function syncedSoon(syncable: Syncable): Promise<void> {
  return new Promise((resolve, reject) => {
    syncable.syncSoon((error) => error ? reject(error) : resolve());
  });
}

/** Whether a tmpfs can be mounted here. */
function mounts(): boolean {
  using folder = temporaryFolder();
  const args = ["-t", "tmpfs", "-o", "size=64k", "none", folder.path];
  if (spawnSync("mount", args).status !== 0) return false;
  return spawnSync("umount", [folder.path]).status === 0;
}

/** Whether a sparse file may be larger than any disk, as on xfs. */
function allowsHuge(): boolean {
  using folder = temporaryFolder();
  const path = join(folder.path, "a");
  fs.writeFileSync(path, "");
  try {
    fs.truncateSync(path, TOO_LARGE);
    return true;
  } catch {
    return false;
  }
}

/** A file system with little room. */
function smallDisk(scene: Scene, bytes: number): Disposable & { path: string } {
  const path = join(scene.path, "..", "disk");
  fs.mkdirSync(path);
  const args = ["-t", "tmpfs", "-o", `size=${bytes}`, "none", path];
  assertEquals(spawnSync("mount", args).status, 0);
  return {
    path,
    [Symbol.dispose](): void {
      assertEquals(spawnSync("umount", ["-l", path]).status, 0);
    },
  };
}

/** Takes all the space there is. */
function fillDisk(directory: StorageDirectory): void {
  for (let i = 0;; i++) {
    try {
      directory.create(`fill${i}`, PAGE).close();
    } catch (error) {
      assertEquals((error as StorageError).systemCode, "ENOSPC");
      return;
    }
  }
}

/** What opening and creating in a folder comes to for user 65534. */
function asNobody(kind: string, path: string): string {
  const user = ["--reuid=65534", "--regid=65534", "--clear-groups"];
  return runChild(
    `
      try {
        const storage = make("${kind}");
        const directory = storage.openDirectory(${text(path)}, LOOK);
        directory.open("a", "write").close();
        directory.create("b", 8).close();
        console.log("ok");
      } catch (error) {
        if (!(error instanceof StorageError)) throw error;
        console.log(error.operation, error.path, error.systemCode);
      }
    `,
    { before: ["setpriv", ...user] },
  );
}

/** Runs a script in this runtime and gives what it prints. */
function runChild(
  body: string,
  options: { before?: string[]; args?: readonly string[] } = {},
): string {
  const { before = [], args: runtimeArgs = THIS.args } = options;
  const root = join(import.meta.dirname!, "..");
  using folder = temporaryFolder();
  fs.chmodSync(folder.path, 0o755);
  // The package's own sources may not be readable for nobody: they go along.
  fs.cpSync(join(root, "src"), join(folder.path, "src"), { recursive: true });
  fs.cpSync(join(root, "ffi"), join(folder.path, "ffi"), { recursive: true });
  fs.writeFileSync(join(folder.path, "package.json"), '{"type":"module"}');
  const script = join(folder.path, "script.ts");
  fs.writeFileSync(
    script,
    `
      import * as ffi from "./ffi/mod.ts";
      import { StorageError } from "./src/errors.ts";
      const LOOK = ${JSON.stringify(LOOK)};
      const OPTIONS = ${JSON.stringify(OPTIONS)};
      const make = (kind: string) => ffi[kind + "Storage"]();
      ${body}
    `,
  );
  const [command, ...args] = [
    ...before,
    THIS.path,
    ...runtimeArgs,
    script,
  ];
  const result = spawnSync(command!, args, {
    encoding: "utf8",
    env: {
      ...process.env,
      DENO_DIR: join(folder.path, "deno"),
      HOME: folder.path,
    },
    // A child that stays alive must fail the test, not hang it.
    timeout: 60_000,
  });
  assertEquals(result.status, 0, result.stderr);
  return result.stdout.trim();
}

function text(value: string): string {
  return JSON.stringify(value);
}

/** How many descriptors of a folder, or of files below, this process has. */
function descriptorsBelow(path: string): number {
  const links = fs.readdirSync("/proc/self/fd").map((fd) => {
    try {
      return fs.readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      // The one that listed them.
      return "";
    }
  });
  return links.filter((link) => link.startsWith(path)).length;
}
