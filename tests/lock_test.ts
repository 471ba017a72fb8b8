/**
 * One writer: in this process, in a worker, in another process of any
 * runtime, and after a process was killed.
 *
 * @module
 */
import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { StorageError, WalLockedError } from "../src/errors.ts";
import type { StorageDirectory } from "../src/storage.ts";
import { assertEquals, assertMatch, assertThrows } from "./_assert.ts";
import {
  HAS_FFI,
  RUNTIMES,
  startChild,
  STORAGES,
  temporaryFolder,
  THIS,
  THIS_RUNTIME,
} from "./_storages.ts";

const OPTIONS = { create: true, directoryMode: 0o750, fileMode: 0o640 };
const KINDS = STORAGES.filter(({ real }) => real);
const NO_OTHERS = RUNTIMES.length === 3
  ? false
  : "WALRUS_DENO, WALRUS_BUN and WALRUS_NODE do not name them all";
const NO_PROC = process.platform === "linux" ? false : "needs /proc";

/** Which runtimes can lock files without FFI. */
const FILES_FLOCK = THIS_RUNTIME === "deno";

/**
 * Waits until a new process has closed a file of its parent's: the system lets
 * the parent go on a moment before that. Never, if the file is to be kept.
 */
async function closedIn(pid: number, path: string): Promise<void> {
  const folder = `/proc/${pid}/fd`;
  if (NO_PROC !== false) return;
  const opened = (fd: string) => {
    try {
      return fs.readlinkSync(join(folder, fd));
    } catch {
      return undefined; // Closed since it was listed.
    }
  };
  const real = fs.realpathSync(path);
  while (fs.readdirSync(folder).map(opened).includes(real)) await sleep(1);
}

/** A log's folder, opened with a storage. */
class Scene implements Disposable {
  readonly directory: StorageDirectory;
  readonly #folder = temporaryFolder();

  constructor(make: (typeof KINDS)[number]["make"]) {
    this.directory = make().openDirectory(this.path, OPTIONS)!;
  }

  get path(): string {
    return this.#folder.path;
  }

  /** What the owner file says. */
  get owner(): Record<string, unknown> {
    return JSON.parse(fs.readFileSync(join(this.path, "LOCK.owner"), "utf8"));
  }

  /** Files of the lock, without their random parts. */
  get lockFiles(): string[] {
    return fs.readdirSync(this.path).sort();
  }

  /** Leaves an owner file as `change` makes it of ours. */
  leaveOwner(change: Record<string, unknown>): void {
    const lock = this.directory.lock();
    const record: Record<string, unknown> = { ...this.owner, ...change };
    lock.release();
    const path = join(this.path, "LOCK.owner");
    fs.writeFileSync(path, "");
    record.inode = String(fs.statSync(path).ino);
    fs.writeFileSync(path, JSON.stringify({ ...record, ...change }));
  }

  [Symbol.dispose](): void {
    this.directory.close();
    this.#folder[Symbol.dispose]();
  }
}

for (const { kind, make } of KINDS) {
  const flocks = kind === "mapped" || FILES_FLOCK;

  test(`${kind}: lock() names the holder, and frees on release`, () => {
    using scene = new Scene(make);
    assertEquals(scene.lockFiles, []);
    const lock = scene.directory.lock();
    assertEquals(scene.lockFiles, ["LOCK", "LOCK.owner"]);
    assertEquals(scene.owner.pid, process.pid);
    assertEquals(scene.owner.how, flocks ? "flock" : "owner");
    const error = assertThrows(() => scene.directory.lock(), WalLockedError);
    assertEquals(error.pid, process.pid);
    assertMatch(
      error.message,
      /^Cannot lock folder "\S+": process \d+ .*, expected no other writer$/,
    );
    lock.verify();
    lock.release();
    assertEquals(scene.lockFiles, ["LOCK"]);
    scene.directory.lock().release();
  });

  test(`${kind}: lock files have the mode of files`, () => {
    using scene = new Scene(make);
    const lock = scene.directory.lock();
    for (const name of scene.lockFiles) {
      const { mode } = fs.statSync(join(scene.path, name));
      assertEquals(mode & 0o777, 0o640, name);
    }
    lock.release();
  });

  test(`${kind}: openDirectory() and open() leave no lock file`, () => {
    using scene = new Scene(make);
    scene.directory.create("a", 8).close();
    scene.directory.open("a", "write")!.close();
    assertEquals(scene.lockFiles, ["a"]);
  });

  test(`${kind}: the lock excludes a worker, and is freed for it`, async () => {
    using scene = new Scene(make);
    const lock = scene.directory.lock();
    assertEquals(
      await lockInWorker(kind, scene.path),
      `refused by ${process.pid}`,
    );
    lock.release();
    assertEquals(await lockInWorker(kind, scene.path), "locked");
  });

  for (const runtime of RUNTIMES) {
    for (const other of ["mapped", "files"]) {
      const name = `${other} in ${runtime.name}`;
      const skip = other === "mapped" && !HAS_FFI && "no FFI here";

      test(`${kind}: the lock excludes ${name}`, { skip }, async () => {
        using scene = new Scene(make);
        using child = startChild(runtime, other, scene.path);
        const lock = scene.directory.lock();
        assertEquals(await child.ask("lock"), `refused by ${process.pid}`);
        lock.verify();
        lock.release();
        assertEquals(await child.ask("lock"), "locked");
        const { pid } = child.process;
        const error = assertThrows(
          () => scene.directory.lock(),
          WalLockedError,
        );
        assertEquals(error.pid, pid);
        assertEquals(await child.ask("release"), "released");
        scene.directory.lock().release();
      });

      test(`${kind}: kill -9 frees the lock of ${name}`, {
        skip,
        timeout: 30_000,
      }, async () => {
        using scene = new Scene(make);
        using child = startChild(runtime, other, scene.path);
        assertEquals(await child.ask("lock"), "locked");
        // Its children must not keep the lock.
        const grandchild = Number(await child.ask("spawn"));
        await closedIn(grandchild, join(scene.path, "LOCK"));
        assertThrows(() => scene.directory.lock(), WalLockedError);
        await child.kill();
        process.kill(grandchild, 0);
        const lock = scene.directory.lock();
        lock.verify();
        process.kill(grandchild, "SIGKILL");
        assertEquals(scene.owner.pid, process.pid);
        lock.release();
        assertEquals(scene.lockFiles, ["LOCK"]);
      });
    }
  }

  const gone: [string, Record<string, unknown>][] = [
    ["of no process", { how: "owner", pid: 2 ** 22 + 1 }],
    ["of a number that was used again", { how: "owner", start: "1" }],
    ["of an earlier boot", { how: "owner", boot: "x" }],
    ["of a copied folder", { inode: "1" }],
    ["that is no record", { pid: "x" }],
  ];
  for (const [name, change] of gone) {
    test(`${kind}: lock() takes over from an owner ${name}`, () => {
      using scene = new Scene(make);
      scene.leaveOwner(change);
      const lock = scene.directory.lock();
      lock.verify();
      assertEquals(scene.lockFiles, ["LOCK", "LOCK.owner"]);
      lock.release();
    });
  }

  const alive: [string, Record<string, unknown>, boolean][] = [
    ["that lives", { how: "owner" }, false],
    ["on another machine", { how: "owner", boot: "x", host: "y" }, true],
    ["in another container", { how: "owner", namespace: "x", pid: 1 }, true],
  ];
  for (const [name, change, undecided] of alive) {
    test(`${kind}: lock() does not take over from an owner ${name}`, () => {
      using scene = new Scene(make);
      scene.leaveOwner(change);
      const before = scene.owner;
      const error = assertThrows(() => scene.directory.lock(), WalLockedError);
      assertEquals(error.pid, before.pid);
      const remedy = `remove "${join(scene.path, "LOCK.owner")}"`;
      assertEquals(error.message.includes(remedy), undecided);
      assertEquals(scene.owner, before);
      assertEquals(scene.lockFiles, ["LOCK", "LOCK.owner"]);
    });
  }

  test(`${kind}: holding the file lock proves its last holder gone`, {
    skip: flocks ? false : "has no file lock",
  }, () => {
    using scene = new Scene(make);
    scene.leaveOwner({ how: "flock", namespace: "x", boot: "y", host: "z" });
    scene.directory.lock().release();
  });

  test(`${kind}: a killed process that nobody waited for is gone`, {
    skip: NO_PROC,
  }, async () => {
    using scene = new Scene(make);
    // The shell becomes a sleep before its child ends, and never waits for it.
    const shell = spawn("sh", ["-c", "sleep 0.5 & echo $!; exec sleep 60"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      const pid = await new Promise<number>((resolve) => {
        shell.stdout.once("data", (data) => resolve(Number(data)));
      });
      const stat = (): string => fs.readFileSync(`/proc/${pid}/stat`, "utf8");
      while (!stat().includes(") Z ")) await sleep(1);
      const start = stat().split(") ")[1]!.split(" ")[19];
      scene.leaveOwner({ how: "owner", pid, start });
      scene.directory.lock().release();
    } finally {
      shell.kill("SIGKILL");
    }
  });

  test(`${kind}: an empty owner file is what a power cut left`, () => {
    using scene = new Scene(make);
    fs.writeFileSync(join(scene.path, "LOCK.owner"), "");
    scene.directory.lock().release();
  });

  test(`${kind}: lock() removes what killed processes left`, () => {
    using scene = new Scene(make);
    scene.leaveOwner({ how: "owner", start: "1" });
    const owner = join(scene.path, "LOCK.owner");
    fs.renameSync(owner, `${owner}.x.stale`);
    scene.leaveOwner({ how: "owner", start: "1" });
    fs.renameSync(owner, `${owner}.x.new`);
    const lock = scene.directory.lock();
    assertEquals(scene.lockFiles, ["LOCK", "LOCK.owner"]);
    lock.release();
  });

  test(`${kind}: a living owner that was set aside gets it back`, () => {
    using scene = new Scene(make);
    scene.leaveOwner({ how: "owner" });
    const before = scene.owner;
    const owner = join(scene.path, "LOCK.owner");
    // As one who read an older file does, an instant before he notices.
    fs.renameSync(owner, `${owner}.x.stale`);
    const error = assertThrows(() => scene.directory.lock(), WalLockedError);
    assertEquals(error.pid, process.pid);
    assertEquals(scene.owner, before);
    assertEquals(scene.lockFiles, ["LOCK", "LOCK.owner"]);
  });

  test(`${kind}: verify() and release() find what was set aside`, () => {
    using scene = new Scene(make);
    const owner = join(scene.path, "LOCK.owner");
    const lock = scene.directory.lock();
    fs.renameSync(owner, `${owner}.x.stale`);
    lock.verify();
    assertEquals(scene.lockFiles, ["LOCK", "LOCK.owner"]);
    fs.renameSync(owner, `${owner}.x.stale`);
    lock.release();
    assertEquals(scene.lockFiles, ["LOCK"]);
  });

  test(`${kind}: verify() throws when the lock was taken away`, () => {
    using scene = new Scene(make);
    const owner = join(scene.path, "LOCK.owner");
    for (const other of [undefined, JSON.stringify({ pid: 7, how: "owner" })]) {
      const lock = scene.directory.lock();
      fs.unlinkSync(owner);
      if (other !== undefined) fs.writeFileSync(owner, other);
      const error = assertThrows(() => lock.verify(), WalLockedError);
      assertEquals(error.pid, other && 7);
      lock.release();
      // What is another's is not removed.
      assertEquals(fs.existsSync(owner), other !== undefined);
    }
  });

  for (const file of ["LOCK", "LOCK.owner"]) {
    test(`${kind}: lock() refuses a ${file} that is no file`, () => {
      using scene = new Scene(make);
      const path = join(scene.path, file);
      const hostile: [string, () => unknown][] = [
        ["symbolic link", () => fs.symlinkSync("elsewhere", path)],
        ["FIFO", () => spawnSync("mkfifo", [path])],
        ["folder", () => fs.mkdirSync(path)],
      ];
      for (const [name, put] of hostile) {
        fs.rmSync(path, { force: true });
        put();
        assertThrows(() => scene.directory.lock(), StorageError, name);
        fs.rmSync(path, { recursive: true });
        assertEquals(fs.existsSync(join(scene.path, "elsewhere")), false);
        scene.directory.lock().release();
      }
    });
  }

  test(`${kind}: two never win, also when taking over`, async () => {
    using scene = new Scene(make);
    // Two runtimes at most: each is a process that runs at full speed.
    const runtimes = [THIS, ...RUNTIMES.filter((other) => other !== THIS)];
    const children = [0, 1, 2].map((i) => {
      return startChild(runtimes[i % runtimes.length]!, kind, scene.path);
    });
    try {
      const counts = await Promise.all(
        children.map((child) => child.ask("contend")),
      );
      assertEquals(counts, ["60", "60", "60"]);
    } finally {
      await Promise.all(children.map((child) => child.kill()));
    }
    const lock = scene.directory.lock();
    lock.verify();
    assertEquals(scene.lockFiles, ["LOCK", "LOCK.owner"]);
    lock.release();
  });
}

test("files: lock() sees a file lock whose owner file is missing", {
  skip: (HAS_FFI ? false : "needs FFI") || NO_PROC,
}, () => {
  using scene = new Scene(KINDS.find(({ kind }) => kind === "mapped")!.make);
  const lock = scene.directory.lock();
  fs.unlinkSync(join(scene.path, "LOCK.owner"));
  const files = KINDS.find(({ kind }) => kind === "files")!.make();
  const directory = files.openDirectory(scene.path, OPTIONS)!;
  const error = assertThrows(() => directory.lock(), WalLockedError);
  assertEquals(error.pid, process.pid);
  lock.release();
  directory.lock().release();
  directory.close();
});

test("the lock is tried with all three runtimes", { skip: NO_OTHERS }, () => {
  assertEquals(RUNTIMES.map(({ name }) => name), ["deno", "bun", "node"]);
});

/** Locks, tells how that went, and releases, in a worker. */
async function lockInWorker(kind: string, path: string): Promise<string> {
  const module = new URL("../ffi/mod.ts", import.meta.url).href;
  const source = `
    import { parentPort } from "node:worker_threads";
    import * as ffi from ${JSON.stringify(module)};
    const storage = ffi["${kind}Storage"]();
    const options = ${JSON.stringify(OPTIONS)};
    const directory = storage.openDirectory(${JSON.stringify(path)}, options);
    try {
      const lock = directory.lock();
      lock.verify();
      lock.release();
      parentPort.postMessage("locked");
    } catch (error) {
      parentPort.postMessage("refused by " + error.pid);
    }
    directory.close();
  `;
  using folder = temporaryFolder();
  const script = join(folder.path, "worker.mjs");
  fs.writeFileSync(script, source);
  const worker = new Worker(script);
  try {
    return await new Promise<string>((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  } finally {
    await worker.terminate();
  }
}
