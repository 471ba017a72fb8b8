/**
 * What a trace of system calls must show of syncs: no promise without one,
 * none repeated after a failure, and how openings and syncs belong together.
 *
 * @module
 */
import { basename } from "node:path";
import { assert } from "./_assert.ts";
import { descriptorPath, type SystemCall } from "./_strace.ts";

/** The calls that force bytes to the disk. */
export const SYNC_CALLS: readonly string[] = ["fdatasync", "fsync"];

/** Whether a call has returned success. */
function succeeded(call: SystemCall): boolean {
  return call.ended < Infinity && !call.result.startsWith("-1");
}

function isSync(call: SystemCall): boolean {
  return SYNC_CALLS.includes(call.name);
}

function isSegment(path: string | undefined): boolean {
  return /^segment_\d{20}\.wal$/.test(basename(path ?? ""));
}

/** The lines of the report among the calls, in order. */
function saidIn(
  calls: readonly SystemCall[],
): { call: SystemCall; words: readonly string[] }[] {
  const said = [];
  for (const call of calls) {
    if (call.name !== "write") continue;
    const [, text] = /, "([^"\\]*)/.exec(call.text) ?? [];
    if (text !== undefined) said.push({ call, words: text.split(" ") });
  }
  return said;
}

/**
 * Nothing is promised before a sync of a segment that began after the write
 * has returned success.
 */
export function checkPromises(calls: readonly SystemCall[]): void {
  const syncs = calls.filter((call) =>
    isSync(call) && succeeded(call) && isSegment(descriptorPath(call))
  );
  const began = new Map<string, SystemCall>();
  for (
    const { call, words: [word = "", id = "", verb = ""] } of saidIn(calls)
  ) {
    if (word === "try" && ["append", "batch"].includes(verb)) {
      began.set(id, call);
    }
    const asked = began.get(id);
    if (word !== "ack" || asked === undefined) continue;
    const covered = syncs.some((sync) =>
      sync.began > asked.began && sync.ended < call.began
    );
    assert(covered, `call ${id} was promised without a sync`);
  }
}

/**
 * After a failed sync of a file nobody asks for another one of it before the
 * log was opened again: the kernel tells each failure once, so the second
 * would succeed.
 */
export function checkNoRetry(calls: readonly SystemCall[], log: string): void {
  const failed = new Map<string, SystemCall>();
  for (const call of calls) {
    // Opening takes the lock first of all.
    if (call.name.startsWith("open") && call.text.includes(`"${log}/LOCK"`)) {
      failed.clear();
    }
    if (!isSync(call)) continue;
    const path = descriptorPath(call)!;
    const before = failed.get(path);
    const again = before !== undefined && call.began > before.ended;
    assert(!again, `${call.name} of ${path} again after it failed`);
    if (call.result.startsWith("-1")) failed.set(path, call);
  }
}

/** A sync, and the opening that its descriptor goes back to. */
export interface OpenedSync {
  readonly path: string;
  readonly thread: number;
  /** The `open` that made the open file; a `dup` shares it. */
  readonly opening: SystemCall;
}

/** Each sync in a trace with its opening: needs open, dup, fcntl, close. */
export function syncsByOpening(calls: readonly SystemCall[]): OpenedSync[] {
  const openings = new Map<number, SystemCall>();
  const syncs: OpenedSync[] = [];
  for (const call of calls) {
    const made = /^(\d+)</.exec(call.result)?.[1];
    const given = Number(/^(\d+)</.exec(call.text)?.[1] ?? NaN);
    if (call.name.startsWith("open") && made !== undefined) {
      openings.set(Number(made), call);
    } else if (/^(dup|fcntl)/.test(call.name) && made !== undefined) {
      const shared = openings.get(given);
      if (shared !== undefined) openings.set(Number(made), shared);
    } else if (call.name === "close") {
      openings.delete(given);
    } else if (isSync(call)) {
      const opening = openings.get(given);
      const path = descriptorPath(call)!;
      assert(opening !== undefined, `${call.name} of ${path}: never opened`);
      syncs.push({ path, thread: call.thread, opening });
    }
  }
  return syncs;
}
