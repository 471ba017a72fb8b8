/**
 * Looks at names and at what is open: what it is, and which.
 *
 * @module
 */

import * as fs from "node:fs";
import type { DirectoryEntry } from "../src/storage.ts";

/** What a look shows. */
export interface Seen {
  /** What it is. */
  readonly kind: SeenKind;
  /** With `ino`: which one. */
  readonly dev: number;
  /** See `dev`. */
  readonly ino: number;
  /** Its size in bytes. */
  readonly size: number;
}

/** What can lie under a name, as errors call it. */
export type SeenKind =
  | "regular file"
  | "symbolic link"
  | "folder"
  | "FIFO"
  | "socket"
  | "device";

/** Ways to look. They throw as `node:fs` does. */
export interface Looks {
  /** At a name; links are not followed, `undefined` when nothing is there. */
  at(path: string): Seen | undefined;
  /** At what is open. */
  into(fd: number): Seen;
  /** At all names in a folder, in no order. */
  list(path: string): DirectoryEntry[];
}

/** By `node:fs`. */
export const plainLooks: Looks = {
  at(path: string): Seen | undefined {
    const stat = fs.lstatSync(path, { throwIfNoEntry: false });
    return stat && seenBy(stat);
  },

  into(fd: number): Seen {
    return seenBy(fs.fstatSync(fd));
  },

  list(path: string): DirectoryEntry[] {
    const entries = fs.readdirSync(path, { withFileTypes: true });
    return entries.map((entry): DirectoryEntry => {
      const kind = entry.isFile()
        ? "file"
        : entry.isDirectory()
        ? "directory"
        : "other";
      return { name: entry.name, kind };
    });
  },
};

/** Whether two looks saw one file. */
export function isSame(a: Seen, b: Seen): boolean {
  return a.ino === b.ino && a.dev === b.dev;
}

function seenBy(stat: fs.Stats): Seen {
  const { dev, ino, size } = stat;
  return { kind: kindOf(stat), dev, ino, size };
}

function kindOf(stat: fs.Stats): SeenKind {
  if (stat.isFile()) return "regular file";
  if (stat.isSymbolicLink()) return "symbolic link";
  if (stat.isDirectory()) return "folder";
  if (stat.isFIFO()) return "FIFO";
  if (stat.isSocket()) return "socket";
  return "device";
}
