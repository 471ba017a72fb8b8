/**
 * Finds the pinned runtimes in `node_modules`, installing them first when
 * they are not there or the lock has changed. The executables come straight
 * from the platform packages, so no install script ever runs.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The repository's root, without a slash at the end. */
export const ROOT = fileURLToPath(new URL("..", import.meta.url)).replace(
  /[\\/]$/,
  "",
);

/** The names that `--runtime` takes, in the order of the suite. */
export const RUNTIME_NAMES = ["deno", "bun", "node"];

/** Runs `npm ci` unless what is installed is as new as the lock. */
export function installPinned() {
  const installed = join(ROOT, "node_modules", ".package-lock.json");
  const locked = join(ROOT, "package-lock.json");
  if (
    existsSync(installed) &&
    statSync(installed).mtimeMs >= statSync(locked).mtimeMs
  ) return;
  console.log("Installing the pinned runtimes: npm ci");
  const { status, error } = spawnSync("npm", ["ci"], {
    cwd: ROOT,
    env: { ...process.env, PATH: pathWithoutNodeModules() },
    stdio: ["ignore", "inherit", "inherit"],
    shell: process.platform === "win32",
  });
  if (status !== 0) {
    throw new Error("Cannot install the pinned runtimes: npm ci failed", {
      cause: error,
    });
  }
}

/**
 * The absolute path of a pinned executable. `WALRUS_DENO`, `WALRUS_BUN` and
 * `WALRUS_NODE` replace it, for platforms that no package is made for.
 */
export function findRuntime(name) {
  const chosen = process.env[`WALRUS_${name.toUpperCase()}`];
  if (chosen) return chosen;
  const tried = candidates(name).map((path) =>
    join(ROOT, "node_modules", ...path.split("/"))
  );
  const found = tried.find((path) => existsSync(path));
  if (found === undefined) {
    throw new Error(
      `Cannot find ${name}: no package for ${process.platform} ` +
        `${process.arch}, expected WALRUS_${name.toUpperCase()} to name one`,
    );
  }
  return found;
}

/** What tests are given to start the other runtimes with. */
export function runtimeEnvironment() {
  const environment = {};
  for (const name of RUNTIME_NAMES) {
    try {
      environment[`WALRUS_${name.toUpperCase()}`] = findRuntime(name);
    } catch {
      // Not made for this platform: tests that need it say that they skip.
    }
  }
  return environment;
}

/** The version that an executable reports, as in "2.9.6". */
export function runtimeVersion(executable) {
  const text = execFileSync(executable, ["--version"], { encoding: "utf8" });
  return /\d+\.\d+\.\d+\S*/.exec(text)?.[0] ?? "unknown";
}

function candidates(name) {
  const { platform, arch } = process;
  const windows = platform === "win32";
  const suffix = windows ? ".exe" : "";
  switch (name) {
    case "deno": {
      const libc = platform === "linux" ? "-glibc" : "";
      return [`@deno/${platform}-${arch}${libc}/deno${suffix}`];
    }
    case "bun": {
      const system = windows ? "windows" : platform;
      const cpu = arch === "arm64" ? "aarch64" : arch;
      const base = `@oven/bun-${system}-${cpu}`;
      return [`${base}/bin/bun${suffix}`, `${base}-musl/bin/bun${suffix}`];
    }
    case "node": {
      const system = windows ? "win" : platform;
      return [`node-${system}-${arch}/bin/node${suffix}`];
    }
    default:
      throw new RangeError(
        `Cannot find runtime "${name}": expected one of ` +
          RUNTIME_NAMES.join(", "),
      );
  }
}

// npm ci removes node_modules/.bin, where `npm test` may have found `node`.
function pathWithoutNodeModules() {
  return (process.env.PATH ?? "").split(delimiter)
    .filter((folder) => !folder.includes("node_modules")).join(delimiter);
}
