/**
 * Folders that somebody put odd things into, and what is to come of each: a
 * refusal by type, or nothing at all.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import process from "node:process";

/** Where a thing is put, and what there is to make it of. */
export interface Place {
  /** The path that gets it; nothing is there. */
  readonly path: string;
  /** The file that was there, moved out of the log; a text if none was. */
  readonly bait: string;
  /** A folder out of the log, for things of their own. */
  readonly outside: string;
}

/** Something that is not what the log expects under a name. */
export interface Thing {
  readonly name: string;
  /** A regular file: opened, and judged by its bytes. */
  readonly regular: boolean;
  /** The right bytes: only the way to them is odd. */
  readonly sound?: boolean;
  readonly needsRoot?: boolean;
  put(place: Place): void | Promise<void>;
}

const TERABYTE = 2 ** 40;
const servers: Server[] = [];

/** Ends the sockets of a test, whose names go with them. */
export async function closeSockets(): Promise<void> {
  await Promise.all(
    servers.splice(0).map((server) =>
      new Promise((resolve) => server.close(resolve))
    ),
  );
}

function makeNode(path: string, ...what: string[]): void {
  const { status, stderr } = spawnSync("mknod", [path, ...what]);
  if (status !== 0) throw new Error(`mknod: ${stderr}`);
}

/** Every thing that a name may be. */
export const THINGS: readonly Thing[] = [
  {
    name: "symbolic link to the file",
    regular: false,
    put: ({ path, bait }) => fs.symlinkSync(bait, path),
  },
  {
    name: "symbolic link to a folder",
    regular: false,
    put: ({ path, outside }) => fs.symlinkSync(outside, path),
  },
  {
    name: "symbolic link to nothing",
    regular: false,
    put: ({ path, outside }) => fs.symlinkSync(join(outside, "new"), path),
  },
  {
    name: "symbolic link to itself",
    regular: false,
    put: ({ path }) => fs.symlinkSync(path, path),
  },
  {
    name: "FIFO",
    regular: false,
    put: ({ path }) => makeNode(path, "p"),
  },
  {
    name: "socket",
    regular: false,
    put: ({ path }) =>
      new Promise((resolve, reject) => {
        const server = createServer().listen(path, () => resolve());
        server.once("error", reject);
        server.unref();
        servers.push(server);
      }),
  },
  {
    // One whose bytes never end.
    name: "character device",
    regular: false,
    needsRoot: true,
    put: ({ path }) => makeNode(path, "c", "1", "5"),
  },
  {
    // Of no driver: a device that is not there cannot be harmed.
    name: "block device",
    regular: false,
    needsRoot: true,
    put: ({ path }) => makeNode(path, "b", "240", "7"),
  },
  {
    name: "folder",
    regular: false,
    put: ({ path }) => {
      fs.mkdirSync(path);
      fs.writeFileSync(join(path, "inside"), "somebody's");
    },
  },
  {
    name: "hard link to the file",
    regular: true,
    sound: true,
    put: ({ path, bait }) => fs.linkSync(bait, path),
  },
  {
    name: "sparse file of a terabyte",
    regular: true,
    put: ({ path }) => {
      fs.writeFileSync(path, "");
      fs.truncateSync(path, TERABYTE);
    },
  },
  {
    name: "right beginning of a terabyte",
    regular: true,
    put: ({ path, bait }) => {
      fs.copyFileSync(bait, path);
      fs.truncateSync(path, TERABYTE);
    },
  },
];

/** The things that can be made here, and how many cannot. */
export function possibleThings(): { things: readonly Thing[]; left: number } {
  const isRoot = process.getuid?.() === 0;
  const things = THINGS.filter(({ needsRoot }) => !needsRoot || isRoot);
  return { things, left: THINGS.length - things.length };
}

/** A name in the folder, and what anything odd there comes to. */
export interface Name {
  readonly name: string;
  /**
   * "refused" by all who open; "locked out": by writers; "ignored" by all,
   * also when it is a regular file of any bytes.
   */
  readonly role: "refused" | "locked out" | "ignored";
  /** What regular files with odd bytes come to. */
  readonly regular: "refused" | "ignored";
  /** Whether the log has it: then the right file may come by another way. */
  readonly there: boolean;
}

function segment(number: number, extension = ""): string {
  return `segment_${String(number).padStart(20, "0")}.wal${extension}`;
}

/** The log of these tests has segments 1 to 3. */
export const NAMES: readonly Name[] = [
  { name: "manifest", role: "refused", regular: "refused", there: true },
  { name: segment(1), role: "refused", regular: "refused", there: true },
  { name: segment(2), role: "refused", regular: "refused", there: true },
  { name: segment(3), role: "refused", regular: "refused", there: true },
  // Behind the log: pages of zeros may be what a crash left.
  { name: segment(4), role: "refused", regular: "ignored", there: false },
  {
    name: segment(9, ".tmp"),
    role: "ignored",
    regular: "ignored",
    there: false,
  },
  {
    name: "manifest.77.tmp",
    role: "ignored",
    regular: "ignored",
    there: false,
  },
  { name: "LOCK", role: "locked out", regular: "ignored", there: true },
  { name: "LOCK.owner", role: "locked out", regular: "ignored", there: false },
  {
    name: "LOCK.owner.x.new",
    role: "locked out",
    regular: "ignored",
    there: false,
  },
  { name: "cut", role: "ignored", regular: "ignored", there: false },
  // What goes wrong with them makes readers late, and fails nothing.
  { name: "live", role: "ignored", regular: "ignored", there: true },
  { name: "wake", role: "ignored", regular: "ignored", there: false },
  { name: "consumers", role: "ignored", regular: "ignored", there: true },
  {
    name: "consumers/reader",
    role: "ignored",
    regular: "ignored",
    there: true,
  },
  {
    name: "consumers/.other.tmp",
    role: "ignored",
    regular: "ignored",
    there: false,
  },
  { name: "notes.txt", role: "ignored", regular: "ignored", there: false },
];
