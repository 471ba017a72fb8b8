/**
 * Tears the end of a log whose process was killed, as a power cut may.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { assertGreater } from "./_assert.ts";
import type { Ledger } from "./_ledger.ts";

/**
 * Changes a byte of the entry with this number, in the last segment, which
 * nobody was promised; what was promised must still be found.
 */
export function tearEntry(ledger: Ledger, log: string, serial: number): void {
  const name = fs.readdirSync(log).filter((one) => one.endsWith(".wal")).sort()
    .at(-1)!;
  const path = join(log, name);
  const bytes = fs.readFileSync(path);
  const at = bytes.indexOf(`entry ${serial} `);
  assertGreater(at, 0, `entry ${serial} is not in ${path}`);
  const fd = fs.openSync(path, "r+");
  fs.writeSync(fd, new Uint8Array([bytes[at]! ^ 1]), 0, 1, at);
  fs.closeSync(fd);
  ledger.history.poisoned = true;
}
