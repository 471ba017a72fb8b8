/**
 * Does the same small work again and again between two marks in its report,
 * so that a trace tells what it asks of the system:
 * `guard_calls.ts KIND FOLDER`.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import {
  filesStorage,
  mappedStorage,
  openReader,
  openWal,
  openWalSync,
  type Wal,
  type WalOptions,
} from "../../mod.ts";
import { SCENES } from "../_guard_scenes.ts";

const [kind, folder] = process.argv.slice(2) as ["mapped" | "files", string];
const storage = kind === "mapped" ? mappedStorage() : filesStorage();
const data = new Uint8Array(256).map((_, i) => i);
let sum = 0;

function say(text: string): void {
  fs.writeSync(1, text + "\n");
}

function timesOf(name: string): number {
  return SCENES[kind][name]!.times;
}

/** Blocking work between its marks: nothing else of this thread can run. */
function scene(name: string, work: (nth: number) => void): void {
  say(`begin ${name}`);
  for (let nth = 0; nth < timesOf(name); nth++) work(nth);
  say(`end ${name}`);
}

async function sceneSoon(
  name: string,
  work: (nth: number) => Promise<unknown>,
): Promise<void> {
  say(`begin ${name}`);
  for (let nth = 0; nth < timesOf(name); nth++) await work(nth);
  say(`end ${name}`);
}

function options(sync: "always" | "never"): WalOptions {
  // So large that no scene fills an eighth, from which on a file is made ahead.
  return { storage, sync, segmentBytes: 64 * 1024 * 1024 };
}

function path(name: string): string {
  return join(folder, name);
}

function fill(wal: Wal, count: number): void {
  for (let nth = 0; nth < count; nth++) wal.appendSync(data);
}

/** Nobody waits for a sync. */
async function unsynced(): Promise<void> {
  const wal = openWalSync(path("never"), options("never"));
  fill(wal, 2000);
  await wal.append(data);
  scene("append", () => void wal.appendSync(data));
  await sceneSoon("append soon", () => wal.append(data));
  const reader = await openReader(path("never"), { storage });
  sum += reader.get(1).data[0]!;
  scene("append beside a reader", () => void wal.appendSync(data));
  await reader.close();
  const batch = Array.from({ length: 1000 }, () => data);
  wal.appendBatchSync(batch);
  scene("batch of 1000", () => void wal.appendBatchSync(batch));
  sum += wal.view(7).data[0]!;
  const at = (nth: number) => 1 + (nth * 7919) % 2000;
  scene("get", (nth) => sum += wal.get(at(nth)).data[0]!);
  scene("view", (nth) => sum += wal.view(at(nth)).data[0]!);
  scene("scan of 2000", () => {
    for (const entry of wal.entries({ to: 2000 })) sum += entry.data[0]!;
  });
  wal.closeSync();
}

/** Every append is on the disk before it is done. */
async function synced(): Promise<void> {
  const wal = await openWal(path("always"), options("always"));
  fill(wal, 300);
  await wal.append(data);
  scene("durable append", () => void wal.appendSync(data));
  await sceneSoon("durable append soon", () => wal.append(data));
  await sceneSoon(
    "64 durable appends",
    () => Promise.all(Array.from({ length: 64 }, () => wal.append(data))),
  );
  await sceneSoon(
    "idle second",
    () => new Promise((resolve) => setTimeout(resolve, 1000)),
  );
  wal.closeSync();
}

/** A segment ends and the next one begins, with a sync behind it. */
function rotations(): void {
  const wal = openWalSync(path("rotated"), options("always"));
  fill(wal, 100);
  wal.rotateSync();
  scene("rotation", () => {
    fill(wal, 1);
    wal.rotateSync();
  });
  wal.closeSync();
}

/** A closed log of some segments is opened and closed again. */
function openings(): void {
  const opened = { storage, segmentBytes: 64 * 1024 };
  const wal = openWalSync(path("opened"), { ...opened, sync: "never" });
  while (wal.segments().length < 8) wal.appendSync(data);
  wal.closeSync();
  scene(
    "opening and closing 8 segments",
    () => openWalSync(path("opened"), opened).closeSync(),
  );
}

/** A reader in this thread waits for the next entry, and is woken later. */
async function awaited(): Promise<void> {
  const wal = openWalSync(path("awaited"), options("never"));
  fill(wal, 100);
  const reader = await openReader(path("awaited"), { storage });
  const follower = reader.follow({ from: wal.nextIndex });
  const next = follower[Symbol.asyncIterator]().next();
  // By then it has found nothing and waits.
  await new Promise((resolve) => setTimeout(resolve, 200));
  scene("1000 appends past a waiting reader", () => fill(wal, 1000));
  await next;
  await reader.close();
  wal.closeSync();
}

await unsynced();
await synced();
rotations();
openings();
// Plain files are written at each append, watched or not.
if (kind === "mapped") await awaited();
if (sum < 0) throw new Error("The reads were not done");
say("done");
