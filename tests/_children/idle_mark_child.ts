/**
 * Appends, waits until its log has written the watermark of an idle one,
 * appends again and ends without a close: `idle_mark_child.ts KIND FOLDER`.
 *
 * @module
 */
import { readFileSync } from "node:fs";
import process from "node:process";
import { filesStorage, mappedStorage, openWal } from "../../mod.ts";
import { frameOffsets } from "../_log_bytes.ts";

const [kind, path] = process.argv.slice(2) as [string, string];
const storage = kind === "mapped" ? mappedStorage() : filesStorage();
const wal = await openWal(path, { storage, segmentBytes: 65536 });
for (let i = 1; i <= 3; i++) await wal.append(`entry ${i}`);
const [{ path: segment } = { path: "" }] = wal.segments();
const countFrames = () =>
  frameOffsets(new Uint8Array(readFileSync(segment))).length;
for (let left = 1000; left > 0 && countFrames() === 3; left--) {
  await new Promise((resolve) => setTimeout(resolve, 50));
}
console.log(countFrames() === 3 ? "no watermark" : "watermark");
await wal.append("entry 4");
console.log("ended");
