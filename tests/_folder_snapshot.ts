/**
 * Everything about a tree of files that a program could change: names, kinds,
 * modes, owners, sizes, bytes, link targets. (Not times: allocating what is
 * there already changes them.)
 *
 * @module
 */
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { join } from "node:path";

/** More is only compared by size: sparse files of a terabyte. */
const HASHED_BYTES_MAX = 2 ** 24;

/** What is at each path below a folder, and of the folder itself. */
export type Snapshot = Record<string, string>;

/** Looks at a tree without opening anything but small regular files. */
export function snapshot(root: string): Snapshot {
  const found: Snapshot = {};
  const look = (path: string, name: string): void => {
    const status = fs.lstatSync(path);
    found[name] = describe(path, status);
    if (!status.isDirectory()) return;
    for (const entry of fs.readdirSync(path).sort()) {
      look(join(path, entry), `${name}/${entry}`);
    }
  };
  look(root, ".");
  return found;
}

function describe(path: string, status: fs.Stats): string {
  const { mode, uid, gid, size, rdev } = status;
  const what = [mode.toString(8), uid, gid];
  if (status.isDirectory()) return ["folder", ...what].join(" ");
  if (status.isSymbolicLink()) {
    return ["link to", fs.readlinkSync(path), ...what].join(" ");
  }
  if (!status.isFile()) return ["special", rdev, ...what].join(" ");
  const bytes = size > HASHED_BYTES_MAX
    ? "not hashed"
    : createHash("sha256").update(fs.readFileSync(path)).digest("hex");
  return ["file", size, bytes, ...what].join(" ");
}
