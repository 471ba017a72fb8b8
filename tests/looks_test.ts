/**
 * What each runtime's quick looks show is what `node:fs` shows, of everything
 * that can lie under a name.
 */
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { bunBackend } from "../ffi/bun.ts";
import { denoBackend } from "../ffi/deno.ts";
import { lookIntoBy } from "../ffi/deno_looks.ts";
import { isSame, type Looks, plainLooks } from "../ffi/looks.ts";
import { nodeBackend } from "../ffi/node.ts";
import { assert, assertEquals, assertThrows } from "./_assert.ts";
import { HAS_FFI, temporaryFolder } from "./_storages.ts";

const { execFileSync } = process.getBuiltinModule("node:child_process");

const BACKEND = "Deno" in globalThis
  ? denoBackend
  : process.versions.bun === undefined
  ? nodeBackend
  : bunBackend;

/** One of each kind, and what it is called. */
const KINDS = {
  file: "regular file",
  empty: "regular file",
  link: "symbolic link",
  dangling: "symbolic link",
  folder: "folder",
  pipe: "FIFO",
} as const;

function makeAll(folder: string): void {
  fs.writeFileSync(join(folder, "file"), "12345");
  fs.writeFileSync(join(folder, "empty"), "");
  fs.symlinkSync("file", join(folder, "link"));
  fs.symlinkSync("nothing", join(folder, "dangling"));
  fs.mkdirSync(join(folder, "folder"));
  execFileSync("mkfifo", [join(folder, "pipe")]);
}

/** A folder's names, which come in no order. */
function listed(looks: Looks, path: string): string[] {
  return looks.list(path).map(({ name, kind }) => `${name}: ${kind}`).sort();
}

function checkNames(looks: Looks, folder: string): void {
  for (const [name, kind] of Object.entries(KINDS)) {
    const path = join(folder, name);
    const seen = looks.at(path);
    assertEquals(seen?.kind, kind, name);
    assertEquals(seen, plainLooks.at(path), name);
  }
  assertEquals(looks.at("/dev/null")?.kind, "device");
  assertEquals(looks.at(join(folder, "missing")), undefined);
  const below = () => looks.at(join(folder, "file", "below"));
  const plainBelow = () => plainLooks.at(join(folder, "file", "below"));
  assertEquals(resultOf(below), resultOf(plainBelow));
}

function resultOf(look: () => unknown): unknown {
  try {
    return look();
  } catch (error) {
    return (error as { code?: string }).code;
  }
}

function checkOpen(looks: Looks, path: string): void {
  const fd = fs.openSync(path, "r");
  const seen = looks.into(fd);
  assertEquals(seen, plainLooks.into(fd), path);
  const named = looks.at(path);
  assert(named !== undefined && isSame(seen, named), path);
  fs.closeSync(fd);
  const { code } = assertThrows(() => looks.into(fd)) as { code?: string };
  assertEquals(code, "EBADF");
}

const LOOKS: readonly [string, () => Looks, string | false][] = [
  ["without FFI", () => BACKEND.looks, false],
  ["with FFI", () => BACKEND.open().looks, !HAS_FFI && "no FFI here"],
];

for (const [name, make, skip] of LOOKS) {
  describe(`looks, ${name}`, { skip }, () => {
    it("at names, as node:fs, links not followed", () => {
      using folder = temporaryFolder();
      makeAll(folder.path);
      checkNames(make(), folder.path);
    });

    it("into what is open, as node:fs", () => {
      using folder = temporaryFolder();
      makeAll(folder.path);
      for (const path of ["file", "empty", "folder"]) {
        checkOpen(make(), join(folder.path, path));
      }
      checkOpen(make(), "/dev/null");
    });

    it("at all names of a folder, as node:fs", () => {
      using folder = temporaryFolder();
      makeAll(folder.path);
      const looks = make();
      assertEquals(listed(looks, folder.path), [
        "dangling: other",
        "empty: file",
        "file: file",
        "folder: directory",
        "link: other",
        "pipe: other",
      ]);
      assertEquals(looks.list(join(folder.path, "folder")), []);
      for (const missing of ["missing", "file"]) {
        const path = join(folder.path, missing);
        const code = resultOf(() => plainLooks.list(path));
        assertEquals(resultOf(() => looks.list(path)), code, missing);
      }
    });
  });
}

describe("looks through statx", () => {
  it("ask node:fs when it is refused or does not tell all", () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "file");
    fs.writeFileSync(path, "12345");
    const fd = fs.openSync(path, "r");
    const plain = plainLooks.into(fd);
    assertEquals(lookIntoBy(() => -1)(fd), plain);
    assertEquals(lookIntoBy(() => 0)(fd), plain);
    fs.closeSync(fd);
  });

  it("read sizes, inodes and devices of 64 bits", () => {
    const into = lookIntoBy((_fd, _path, _flags, mask, target) => {
      const view = new DataView(target.buffer);
      view.setUint32(0, mask, true);
      view.setUint16(28, 0o100640, true);
      view.setBigUint64(32, 0x1_0000_0007n, true);
      view.setBigUint64(40, 0x2_0000_0003n, true);
      view.setUint32(136, 0x12345, true);
      view.setUint32(140, 0x6789a, true);
      return 0;
    });
    assertEquals(into(3), {
      kind: "regular file",
      // C's makedev(0x12345, 0x6789a).
      dev: 0x1_2000_6783_459a,
      ino: 0x1_0000_0007,
      size: 0x2_0000_0003,
    });
  });
});
