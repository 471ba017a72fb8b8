/**
 * Who takes part: JavaScript contenders under a runtime, programs in C, and
 * those that cannot, with the reason.
 */

import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const BENCH = dirname(dirname(fileURLToPath(import.meta.url)));

/**
 * JavaScript contenders; `home` are the runtimes that they are measured on,
 * the others only with --everywhere. Whether they load is tried on all.
 */
const MODULES = [
  { name: "walrus", module: "walrus", storage: "mapped" },
  { name: "walrus files", module: "walrus", storage: "files", home: ["node"] },
  { name: "plain files", module: "plain_files", home: ["node"] },
  {
    name: "better-sqlite3",
    module: "better_sqlite3",
    home: ["node"],
    package: "better-sqlite3",
  },
  { name: "node:sqlite", module: "node_sqlite", home: ["node"] },
  { name: "bun:sqlite", module: "bun_sqlite", home: ["bun"] },
  { name: "lmdb-js", module: "lmdb", home: ["node"], package: "lmdb" },
  {
    name: "classic-level",
    module: "classic_level",
    home: ["node"],
    package: "classic-level",
  },
  {
    name: "rocksdb-native",
    module: "rocksdb_native",
    home: ["node"],
    package: "rocksdb-native",
  },
  {
    name: "hypercore",
    module: "hypercore",
    home: ["node"],
    package: "hypercore",
  },
  {
    name: "async-append-only-log",
    module: "async_append_only_log",
    package: "async-append-only-log",
    home: ["node"],
  },
];

const NATIVE = join(BENCH, "peers", "native");
const LOOPS = join(NATIVE, "workloads.c");

/** Programs in C; `needs` is what Debian calls the headers and libraries. */
const PROGRAMS = [
  {
    name: "floor",
    sources: ["floor.c", "stall.c"].map((file) => join(BENCH, "floor", file))
      .concat(LOOPS),
    libraries: ["-lz"],
    needs: "zlib1g-dev",
    about: "what a log must do, in C",
    warms: true,
    promise: { append: "process death", durable: "power loss" },
  },
  {
    name: "RocksDB",
    sources: ["rocksdb.c", "rocksdb_version.cc"]
      .map((file) => join(NATIVE, file)).concat(LOOPS),
    libraries: ["-lrocksdb"],
    needs: "librocksdb-dev",
    about: "its C interface",
    promise: { append: "process death", durable: "power loss" },
  },
  {
    name: "LMDB",
    sources: [join(NATIVE, "lmdb.c"), LOOPS],
    libraries: ["-llmdb"],
    needs: "liblmdb-dev",
    about: "its C interface",
    promise: { append: "process death", durable: "power loss" },
  },
];

/** Whether a --only names it; without one, all are. */
function chosen(name, only) {
  return only === undefined || only.some((text) => name.includes(text));
}

/**
 * Contenders that run here, and those that do not.
 *
 * @param {object} values The command line: `only`, `everywhere`, `full`.
 * @param {Record<string, string>} runtimes Executables by name.
 * @param {Function} runJob As run_job.mjs has it.
 */
export async function findContenders(values, runtimes, runJob) {
  const run = async (contender) => {
    const folder = mkdtempSync(join(values.dir ?? tmpdir(), "walrus-try-"));
    const job = { measure: "load", bytes: 1, budgetMs: 0, bytesMax: 0 };
    try {
      return await runJob(contender, { ...job, folder, timeoutMs: 10_000 });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
  const present = [];
  const absent = [];
  for (const program of PROGRAMS) {
    if (program.name !== "floor" && !chosen(program.name, values.only)) {
      continue;
    }
    const { executable, reason } = compile(program);
    if (reason !== undefined) {
      absent.push({ id: program.name, reason });
      continue;
    }
    const contender = {
      ...program,
      id: program.name,
      runtime: "C",
      executable,
    };
    const { version, error } = await run(contender);
    if (error === undefined) present.push({ ...contender, version });
    else absent.push({ id: program.name, reason: error });
  }
  for (const item of MODULES) {
    for (const [runtime, executable] of Object.entries(runtimes)) {
      const id = `${item.name}, ${runtime}`;
      if (!chosen(id, values.only)) continue;
      const candidate = { ...item, id, runtime, executable };
      const { version, facts, error } = await run(candidate);
      if (error !== undefined) {
        absent.push({ id, version: pinnedVersion(item), reason: error });
      } else if (takesPart(candidate, values)) {
        present.push({ ...candidate, ...facts, version });
      }
    }
  }
  return { present, absent };
}

/** What package.json pins; built-in contenders have the runtime's. */
function pinnedVersion({ package: name }) {
  const url = new URL("../peers/package.json", import.meta.url);
  return JSON.parse(readFileSync(url, "utf8")).dependencies[name];
}

function takesPart({ home, module, runtime }, values) {
  if (home === undefined || home.includes(runtime)) return true;
  return values.everywhere || (values.full && module === "walrus");
}

/** The floor alone: `{ executable }`, or the `reason` why it is not there. */
export function compileFloor() {
  return compile(PROGRAMS.find(({ name }) => name === "floor"));
}

/** The program's executable, made anew when a source is newer. */
function compile({ name, sources, libraries, needs }) {
  const folder = join(BENCH, ".cache");
  const executable = join(folder, name.toLowerCase());
  mkdirSync(folder, { recursive: true });
  const headers = [
    join(NATIVE, "workloads.h"),
    join(BENCH, "floor", "crc32_fold.h"),
    join(BENCH, "floor", "stall.h"),
  ];
  const newest = Math.max(
    ...[...sources, ...headers].map((file) => statSync(file).mtimeMs),
  );
  if (existsSync(executable) && statSync(executable).mtimeMs > newest) {
    return { executable };
  }
  const compiler = process.env.CC ?? "cc";
  const options = ["-O2", "-Wall", "-Wextra", "-Wno-parentheses"];
  const { status, error, stderr } = spawnSync(
    compiler,
    [...options, "-o", executable, ...sources, ...libraries, "-lpthread"],
    { encoding: "utf8" },
  );
  if (error !== undefined) {
    return { reason: `no C compiler: ${compiler} does not start` };
  }
  if (status === 0) return { executable };
  const line = stderr.split("\n").find((text) => /error|cannot/.test(text));
  return {
    reason: `does not compile; in Debian it needs ${needs}: ` +
      `${line?.split("error:").at(-1).trim()}`,
  };
}
