/** Installs the pinned packages of bench/peers. */

import { spawnSync } from "node:child_process";
import { existsSync, statSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";

const FOLDER = fileURLToPath(new URL("../peers/", import.meta.url));

/**
 * Runs `npm ci` unless what is installed is as new as the lock. No install
 * script runs: every package here ships what it needs.
 */
export function installPeers() {
  const installed = `${FOLDER}node_modules/.package-lock.json`;
  const locked = `${FOLDER}package-lock.json`;
  if (
    existsSync(installed) &&
    statSync(installed).mtimeMs >= statSync(locked).mtimeMs
  ) return;
  console.log("Installing the contenders: npm ci in bench/peers");
  const { status } = spawnSync("npm", ["ci", "--ignore-scripts"], {
    cwd: FOLDER,
    stdio: ["ignore", "inherit", "inherit"],
    shell: process.platform === "win32",
  });
  if (status !== 0) {
    console.log("npm ci FAILED: contenders of bench/peers will be missing");
  }
}
