/**
 * The process that the demo kills: appends the lines of a text and writes
 * the index of each acknowledged one to standard output.
 *
 * `demo_writer.ts DIRECTORY FILE PAUSE_MS [STORAGE]`
 *
 * @module
 */

import { writeSync } from "node:fs";
import process from "node:process";
import {
  appendLines,
  hideExperimentalWarnings,
  openLog,
  readLines,
} from "./text.ts";

/** A pause comes after every such part of the text. */
const PARTS = 64;

hideExperimentalWarnings();
const [directory, file, pauseMs, storage] = process.argv.slice(2);
const lines = readLines(file!);
const wal = await openLog(directory!, storage);
const stride = Math.ceil(lines.length / PARTS);
let appended = 0;

await appendLines(
  wal,
  lines,
  (index) => writeSync(1, `${index}\n`),
  () => {
    // Without pauses a small text would be through before it can be killed.
    if (++appended % stride !== 0) return undefined;
    return new Promise((resolve) => setTimeout(resolve, Number(pauseMs)));
  },
);
await wal.close();
