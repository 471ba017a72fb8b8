/**
 * A reader beside a live writer, in a worker thread: each message is a
 * command, and what it sees it says in messages.
 *
 * @module
 */
import { parentPort } from "node:worker_threads";
import { watchByLines } from "../_readers_watcher.ts";

const obey = watchByLines((line) => parentPort!.postMessage(line));
parentPort!.on("message", (line: string) => void obey(line));
