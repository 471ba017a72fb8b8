/**
 * A reader beside a live writer, in a process: each line of its input is a
 * command, and what it sees it says in lines.
 *
 * @module
 */
import * as fs from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { watchByLines } from "../_readers_watcher.ts";

const obey = watchByLines((line) => void fs.writeSync(1, line + "\n"));
const input = createInterface({ input: process.stdin });
input.on("line", (line) => void obey(line));
input.on("close", () => process.exit());
