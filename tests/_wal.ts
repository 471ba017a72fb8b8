/**
 * A place for one test's log on each storage, and both twins of each call.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { it } from "node:test";
import {
  type AppendOptions,
  type EntryInput,
  openWal,
  openWalSync,
  type Transaction,
  type Wal,
  type WalOptions,
} from "../mod.ts";
import type { StorageDirectory, StoragePort } from "../src/storage.ts";
import { verifyLog } from "../src/verify.ts";
import { assert, assertEquals } from "./_assert.ts";
import { type SimulatedOptions, SimulatedStorage } from "../testing/mod.ts";
import {
  type Runtime,
  type StorageCase,
  STORAGES,
  temporaryFolder,
} from "./_storages.ts";

/** The smallest segments: tests rotate soon and simulated disks stay small. */
export const SEGMENT_BYTES: number = 64 * 1024;

/** Where one test's log lives. */
export interface Place {
  readonly kind: StorageCase["kind"];
  /** Whether the folder is the system's. */
  readonly real: boolean;
  readonly storage: StoragePort;
  readonly path: string;
  /** False: what the test leaves is not a log that opens again. */
  sound: boolean;
  /** Opens with small segments unless told otherwise. */
  open(options?: WalOptions): Promise<Wal>;
  openSync(options?: WalOptions): Wal;
}

/** Both twins by one face; the blocking one's throws reject. */
export interface Twin {
  readonly name: "async" | "sync";
  open(place: Place, options?: WalOptions): Promise<Wal>;
  append(
    wal: Wal,
    entry: EntryInput,
    options?: AppendOptions,
  ): Promise<number>;
  appendBatch(
    wal: Wal,
    entries: Iterable<EntryInput>,
    options?: AppendOptions,
  ): Promise<number[]>;
  flush(wal: Wal): Promise<void>;
  commit(tx: Transaction, options?: AppendOptions): Promise<number[]>;
  truncateAfter(wal: Wal, index: number): Promise<void>;
  truncateBefore(wal: Wal, index: number): Promise<void>;
  reset(wal: Wal, nextIndex: number): Promise<void>;
  rotate(wal: Wal): Promise<void>;
  close(wal: Wal): Promise<void>;
}

/** The asynchronous calls and the blocking ones. */
export const TWINS: readonly Twin[] = [
  {
    name: "async",
    open: (place, options) => place.open(options),
    append: (wal, entry, options) => wal.append(entry, options),
    appendBatch: (wal, entries, options) => wal.appendBatch(entries, options),
    flush: (wal) => wal.flush(),
    commit: (tx, options) => tx.commit(options),
    truncateAfter: (wal, index) => wal.truncateAfter(index),
    truncateBefore: (wal, index) => wal.truncateBefore(index),
    reset: (wal, nextIndex) => wal.reset(nextIndex),
    rotate: (wal) => wal.rotate(),
    close: (wal) => wal.close(),
  },
  {
    name: "sync",
    open: (place, options) => later(() => place.openSync(options)),
    append: (wal, entry, options) =>
      later(() => wal.appendSync(entry, options)),
    appendBatch: (wal, entries, options) =>
      later(() => wal.appendBatchSync(entries, options)),
    flush: (wal) => later(() => wal.flushSync()),
    commit: (tx, options) => later(() => tx.commitSync(options)),
    truncateAfter: (wal, index) => later(() => wal.truncateAfterSync(index)),
    truncateBefore: (wal, index) => later(() => wal.truncateBeforeSync(index)),
    reset: (wal, nextIndex) => later(() => wal.resetSync(nextIndex)),
    rotate: (wal) => later(() => wal.rotateSync()),
    close: (wal) => later(() => wal.closeSync()),
  },
];

function later<T>(call: () => T): Promise<T> {
  return new Promise((resolve) => resolve(call()));
}

/** One test on every storage, each with a folder of its own. */
export function onEach(
  title: string,
  body: (place: Place) => void | Promise<void>,
  cases: readonly StorageCase[] = STORAGES,
): void {
  for (const one of cases) {
    it(`${title} [${one.kind}]`, () => inPlace(one, body));
  }
}

/** One test on every storage with either twin. */
export function onEachTwin(
  title: string,
  body: (place: Place, twin: Twin) => void | Promise<void>,
  cases: readonly StorageCase[] = STORAGES,
): void {
  for (const one of cases) {
    for (const twin of TWINS) {
      it(
        `${title} [${one.kind}, ${twin.name}]`,
        () => inPlace(one, (place) => body(place, twin)),
      );
    }
  }
}

/** The storages whose files are the system's. */
export const REAL: readonly StorageCase[] = STORAGES.filter((one) => one.real);

/** Runs a test in a new place, then checks that the log it left is sound. */
async function inPlace(
  one: StorageCase,
  body: (place: Place) => void | Promise<void>,
): Promise<void> {
  if (!one.real) {
    const place = makePlace(one.make(), one, "/log");
    await body(place);
    await checkLog(place);
    return;
  }
  using folder = temporaryFolder();
  const place = makePlace(one.make(), one, join(folder.path, "log"));
  await body(place);
  await checkLog(place);
}

/** A place on a storage that the test has made. */
export function makePlace(
  storage: StoragePort,
  { kind, real }: Pick<StorageCase, "kind" | "real">,
  path: string,
): Place {
  const all = (options?: WalOptions): WalOptions => ({
    segmentBytes: SEGMENT_BYTES,
    storage,
    ...options,
  });
  return {
    kind,
    real,
    storage,
    path,
    sound: true,
    open: (options) => openWal(path, all(options)),
    openSync: (options) => openWalSync(path, all(options)),
  };
}

/** A place on a simulated disk whose syncs end only when the test says so. */
export function simulatedPlace(
  seed = 1,
  options: Omit<SimulatedOptions, "seed"> = {},
): Place & { disk: SimulatedStorage } {
  const disk = new SimulatedStorage({ writeback: 0, ...options, seed });
  const place = makePlace(disk, { kind: "simulated", real: false }, "/log");
  return { ...place, disk };
}

/** The log that a test leaves opens cleanly, and every entry reads. */
async function checkLog(place: Place): Promise<void> {
  if (!place.sound || !listFiles(place)?.includes("manifest")) return;
  const wal = await place.open();
  try {
    assertEquals(wal.recovery.outcome, "clean", "the log that the test left");
    let expected = wal.firstIndex;
    for (const entry of wal) assertEquals(entry.index, expected++);
    if (wal.length > 0) assertEquals(expected, wal.nextIndex);
  } finally {
    await wal.close();
  }
}

/** Every byte of the log agrees with every other. */
export function assertVerified(
  place: Pick<Place, "storage" | "path">,
  message = "what verifying the log finds",
): void {
  inFolder(place, (folder) => {
    const steps = verifyLog(folder);
    let step = steps.next();
    while (!step.done) step = steps.next();
    assertEquals([...step.value.findings], [], message);
  });
}

/** Runs `work` in the log's folder by the storage's own port. */
export function inFolder<T>(
  place: Pick<Place, "storage" | "path">,
  work: (folder: StorageDirectory) => T,
): T {
  const folder = place.storage.openDirectory(place.path, {
    create: false,
    directoryMode: 0o750,
    fileMode: 0o640,
  });
  assert(folder !== undefined, `there is no folder "${place.path}"`);
  try {
    return work(folder);
  } finally {
    folder.close();
  }
}

/** The names in the log's folder, sorted; `undefined` if there is none. */
export function listFiles(
  { storage, path }: Pick<Place, "storage" | "path">,
): string[] | undefined {
  const folder = storage.openDirectory(path, {
    create: false,
    directoryMode: 0o750,
    fileMode: 0o640,
  });
  if (folder === undefined) return undefined;
  try {
    return folder.list().map((one) => one.name).sort();
  } finally {
    folder.close();
  }
}

/** A file of the log, whole. */
export function readBytes(
  place: Place,
  name: string,
): Uint8Array<ArrayBuffer> {
  return inFolder(place, (folder) => {
    const file = folder.open(name, "read")!;
    try {
      const bytes = new Uint8Array(file.bytes);
      assertEquals(file.readAt(bytes, 0), bytes.length);
      return bytes;
    } finally {
      file.close();
    }
  });
}

/** Puts a file into the log's folder, over one that may be there. */
export function putBytes(
  place: Place,
  name: string,
  bytes: Uint8Array<ArrayBuffer>,
): void {
  inFolder(place, (folder) => {
    if (folder.list().some((one) => one.name === name)) folder.remove(name);
    const file = folder.create(name, bytes.length);
    if (bytes.length > 0) file.writeAt(bytes, 0);
    file.sync();
    file.close();
    folder.sync();
  });
}

/** Takes a file out of the log's folder. */
export function removeFile(place: Place, name: string): void {
  inFolder(place, (folder) => {
    folder.remove(name);
    folder.sync();
  });
}

/** Every file by its hash, but for those of the lock. */
export function fingerprint(place: Place): Record<string, string> {
  const prints: Record<string, string> = {};
  inFolder(place, (folder) => {
    const names = folder.list()
      .filter((one) => !one.name.startsWith("LOCK"))
      .map((one) => ({ ...one, name: one.name }))
      .sort((a, b) => a.name < b.name ? -1 : 1);
    for (const { name, kind } of names) {
      if (kind !== "file") {
        const inside = kind === "directory" ? folder.list(name) : [];
        prints[name] = [kind, ...inside.map((one) => one.name)].join(" ");
        continue;
      }
      const file = folder.open(name, "read")!;
      const bytes = new Uint8Array(file.bytes);
      file.readAt(bytes, 0);
      file.close();
      prints[name] = hash(bytes);
    }
  });
  return prints;
}

/** Every file below a folder of the system by its hash, lock files too. */
export function systemFingerprint(path: string): Record<string, string> {
  const prints: Record<string, string> = {};
  const walk = (folder: string): void => {
    for (const name of readdirSync(join(path, folder)).sort()) {
      const inside = join(folder, name);
      const status = lstatSync(join(path, inside));
      const mode = (status.mode & 0o7777).toString(8);
      if (status.isDirectory()) {
        prints[inside] = `folder ${mode}`;
        walk(inside);
      } else {
        prints[inside] = `${mode} ${hash(readFileSync(join(path, inside)))}`;
      }
    }
  };
  walk("");
  return prints;
}

function hash(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** The names of the segment files, in order. */
export function segmentNames(place: Place): string[] {
  return listFiles(place)!.filter((name) => name.endsWith(".wal"));
}

/** Each entry's text. */
export function texts(wal: Wal): string[] {
  return Array.from(wal, (entry) => entry.text());
}

/** `count` texts to append: "entry 1", … */
export function entries(count: number, from = 1): string[] {
  return Array.from({ length: count }, (_, i) => `entry ${from + i}`);
}

/** Bytes that fill a segment in a few entries. */
export function block(bytes: number, fill: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes).fill(fill);
}

/** Whether a promise settles before all that is ready now has run. */
export async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => void (settled = true);
  promise.then(note, note);
  await turn();
  return settled;
}

/** Lets everything run that is ready: tasks of the event loop, too. */
export async function turn(): Promise<void> {
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

/** Lets simulated syncs end until the promise has settled. */
export async function settled<T>(
  disk: SimulatedStorage,
  promise: Promise<T>,
): Promise<T> {
  for (let i = 0; i < 100; i++) {
    if (await isSettled(promise)) break;
    disk.settle();
  }
  return await promise;
}

/** Another process that runs `_children/writer_child.ts`. */
export interface Writer extends Disposable {
  readonly pid: number;
  /** Sends a command and gives the next line. */
  ask(command: string): Promise<string>;
  /** Sends a command without waiting. */
  send(command: string): void;
  /** The next line that it says; "ended" when it is gone. */
  next(): Promise<string>;
  /** Ends it with a signal and waits until it is gone; all it still said. */
  end(signal?: NodeJS.Signals): Promise<string[]>;
}

/** Starts a writer of its own process on a folder. */
export function startWriter(
  runtime: Runtime,
  kind: "mapped" | "files",
  path: string,
  options: object = {},
): Writer {
  const script = join(import.meta.dirname!, "_children", "writer_child.ts");
  const args = [...runtime.args, script, kind, path, JSON.stringify(options)];
  const child = spawn(runtime.path, args, {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const lines: string[] = [];
  const waiting: ((line: string) => void)[] = [];
  const reader = createInterface({ input: child.stdout! });
  reader.on("line", (line) => {
    const next = waiting.shift();
    if (next === undefined) lines.push(line);
    else next(line);
  });
  // Both: the process is gone, and all that it said has been read.
  const ended = Promise.all([
    new Promise((resolve) => child.once("exit", resolve)),
    new Promise((resolve) => reader.once("close", resolve)),
  ]);
  let gone = false;
  ended.then(() => {
    gone = true;
    for (const next of waiting.splice(0)) next("ended");
  });
  const next = (): Promise<string> => {
    const ready = lines.shift();
    if (ready !== undefined) return Promise.resolve(ready);
    if (gone) return Promise.resolve("ended");
    return new Promise((resolve) => waiting.push(resolve));
  };
  const send = (command: string) => void child.stdin!.write(command + "\n");
  child.stdin!.on("error", () => {});
  return {
    pid: child.pid!,
    send,
    next,
    ask(command): Promise<string> {
      send(command);
      return next();
    },
    async end(signal = "SIGKILL"): Promise<string[]> {
      child.kill(signal);
      await ended;
      return lines.splice(0);
    },
    [Symbol.dispose](): void {
      child.kill("SIGKILL");
    },
  };
}
