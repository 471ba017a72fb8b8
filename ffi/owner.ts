/**
 * The record in `LOCK.owner`: which process writes, and whether it lives.
 *
 * A process is known by its number and the time it started, in this boot of
 * this machine. What cannot be found out (no `/proc`, no permission) is left
 * out of the record, and counts as "may be alive" when it decides.
 *
 * @module
 */

import * as fs from "node:fs";
import { hostname } from "node:os";
import process from "node:process";
import {
  closeQuietly,
  openNew,
  openRegular,
  readFully,
  removeQuietly,
  writeFully,
} from "./descriptors.ts";
import type { Seen } from "./looks.ts";

/** A record is some 300 bytes; what is longer is none. */
const RECORD_BYTES_MAX = 4096;

/** Who holds the log. All but `pid` and `how` may be unknown. */
export interface OwnerRecord {
  /** The process. */
  readonly pid: number;
  /** Its start, in ticks since boot. */
  readonly start?: string | undefined;
  /** The boot of the kernel it runs under. */
  readonly boot?: string | undefined;
  /** Where its number counts. */
  readonly namespace?: string | undefined;
  /** The machine or container. */
  readonly host?: string | undefined;
  /** Whether it also holds the file lock of `LOCK`. */
  readonly how: "flock" | "owner";
  /** The inode of the `LOCK` whose file lock it holds. */
  readonly lock?: string | undefined;
  /** Of the record's own file: a copy of the folder holds nothing. */
  readonly inode?: string | undefined;
  /** Tells two records of one process apart. */
  readonly token: string;
}

/** An owner file as found. */
export interface FoundOwner {
  /** Its bytes as text. */
  readonly text: string;
  /** Its inode. */
  readonly inode: string;
  /** What it says; `undefined` when that is no record. */
  readonly record: OwnerRecord | undefined;
}

/** Whether the owner of a record lives; "unknown" counts as alive. */
export type Liveness = "alive" | "gone" | "unknown";

/** The boot of this machine as 32 hex digits; empty where it is not told. */
export function readBootId(): string {
  const text = readText("/proc/sys/kernel/random/boot_id") ?? "";
  const digits = text.replaceAll("-", "");
  return /^[0-9a-f]{32}$/.test(digits) ? digits : "";
}

/** What this process says of itself. */
export function ownRecord(
  how: "flock" | "owner",
  token: string,
  lock: string,
  mayInspect: boolean,
): OwnerRecord {
  const { pid } = process;
  if (!mayInspect) return { pid, how, lock, token };
  const start = startOf("self")?.start;
  const boot = readText("/proc/sys/kernel/random/boot_id");
  const namespace = known(() => fs.readlinkSync("/proc/self/ns/pid"));
  const host = known(hostname);
  return { pid, start, boot, namespace, host, how, lock, token };
}

/** An owner file that this process made, under whatever names it has. */
export class OwnOwner {
  /** Its bytes as text. */
  readonly text: string;
  readonly #fd: number;

  /** Makes it under a name that was not there. */
  constructor(path: string, mode: number, record: OwnerRecord) {
    this.#fd = openNew(path, mode);
    try {
      const inode = String(fs.fstatSync(this.#fd).ino);
      this.text = JSON.stringify({ ...record, inode }) + "\n";
      writeFully(this.#fd, new TextEncoder().encode(this.text), 0);
    } catch (error) {
      closeQuietly(this.#fd);
      removeQuietly(path);
      throw error;
    }
  }

  /** Makes it nobody's, also where another process has moved it. */
  disown(): void {
    try {
      fs.ftruncateSync(this.#fd, 0);
    } catch {
      // The record stays, and is stale once this process is gone.
    }
    closeQuietly(this.#fd);
  }
}

/** Reads an owner file; `undefined` when none is there. */
export function readOwner(path: string): FoundOwner | undefined {
  const attempt = { operation: "read", object: "file", path };
  const opened = openRegular(attempt, path, "read");
  if (opened === undefined) return undefined;
  try {
    const target = new Uint8Array(RECORD_BYTES_MAX);
    const bytes = readFully(opened.fd, target, 0);
    const text = new TextDecoder().decode(target.subarray(0, bytes));
    const inode = String(opened.seen.ino);
    return { text, inode, record: parseRecord(text) };
  } finally {
    closeQuietly(opened.fd);
  }
}

/** Whether the process that wrote an owner file still has the log. */
export function livenessOf(
  found: FoundOwner,
  own: OwnerRecord,
  mayInspect: boolean,
): Liveness {
  const { record, inode } = found;
  // Records appear whole, by a link: what is none was disowned, or a power
  // cut left it.
  if (record === undefined) return "gone";
  if (record.inode !== undefined && record.inode !== inode) return "gone";
  // It said that it holds the file lock, and that is held by us; unless
  // somebody removed LOCK, and ours is another file.
  const both = record.how === "flock" && own.how === "flock";
  if (both && !differ(record.lock, own.lock)) return "gone";
  if (differ(record.boot, own.boot)) {
    return same(record.host, own.host) ? "gone" : "unknown";
  }
  if (!same(record.boot, own.boot) && differ(record.host, own.host)) {
    return "unknown";
  }
  if (differ(record.namespace, own.namespace)) return "unknown";
  return processLiveness(record, mayInspect);
}

function processLiveness(record: OwnerRecord, mayInspect: boolean): Liveness {
  if (!mayInspect) return record.pid === process.pid ? "alive" : "unknown";
  const found = startOf(record.pid);
  if (found === undefined) return signalLiveness(record.pid);
  // Killed, and not yet waited for by its parent.
  if (found.state === "Z" || found.state === "X") return "gone";
  return differ(found.start, record.start) ? "gone" : "alive";
}

/** For systems without `/proc`, or that hide others in it. */
function signalLiveness(pid: number): Liveness {
  try {
    process.kill(pid, 0);
    return "alive";
  } catch (error) {
    return (error as { code?: string }).code === "ESRCH" ? "gone" : "alive";
  }
}

/** State and start of a process: the fields behind its name, which is free. */
function startOf(
  pid: number | "self",
): { state: string; start: string } | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(")") + 2).split(" ");
  // Field 3 comes first here, so the start, field 22, has index 19.
  return fields && { state: fields[0], start: fields[19] };
}

/**
 * The process that has a file lock on a file, by `/proc/locks`: the look of
 * those who cannot ask for the lock themselves.
 */
export function flockHolder(seen: Seen): number | undefined {
  for (const line of (readText("/proc/locks") ?? "").split("\n")) {
    // "1: FLOCK  ADVISORY  WRITE 4155 fe:00:2154875 0 EOF"; "->" only waits.
    const [, kind, , , pid, file] = line.trim().split(/\s+/);
    if (kind === "FLOCK" && isFile(file, seen)) return Number(pid);
  }
  return undefined;
}

/** Whether "fe:00:2154875" (device in hexadecimal) is the file. */
function isFile(file: string, seen: Seen): boolean {
  const [major, minor, inode] = file.split(":");
  const { dev } = seen;
  // The layout of dev_t: minor 0-7, major 8-19, minor 20-31, major 32-63.
  const high = Math.floor(dev / 2 ** 32);
  const low = dev % 2 ** 32;
  const devMajor = (Math.floor(low / 2 ** 8) % 2 ** 12) + high * 2 ** 12;
  const devMinor = (low % 2 ** 8) + Math.floor(low / 2 ** 20) * 2 ** 8;
  return parseInt(major, 16) === devMajor &&
    parseInt(minor, 16) === devMinor && Number(inode) === seen.ino;
}

function parseRecord(text: string): OwnerRecord | undefined {
  const record = known(() => JSON.parse(text) as OwnerRecord | null);
  const { pid, how } = Object(record) as Partial<OwnerRecord>;
  if (typeof pid !== "number" || !Number.isSafeInteger(pid)) return undefined;
  if (how !== "flock" && how !== "owner") return undefined;
  return record as OwnerRecord;
}

function readText(path: string): string | undefined {
  return known(() => fs.readFileSync(path, "latin1").trim());
}

/** A fact that cannot be found out is unknown, whatever the reason. */
function known<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch {
    return undefined;
  }
}

/** Both are known and differ. */
function differ(a: string | undefined, b: string | undefined): boolean {
  return a !== undefined && b !== undefined && a !== b;
}

/** Both are known and equal. */
function same(a: string | undefined, b: string | undefined): boolean {
  return a !== undefined && a === b;
}
