/**
 * A file, `writeSync` and `fdatasyncSync`: what a program does by itself. Each
 * record is a length, a CRC-32 and the data, in one write. Nothing recovers:
 * opening trusts the size of the file. Offsets follow from the size of the
 * records, which is the same for all here.
 */
import {
  closeSync,
  fdatasyncSync,
  fstatSync,
  openSync,
  readSync,
  writeSync,
} from "node:fs";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import process from "node:process";
import { crc32 } from "node:zlib";
import { SURVIVES } from "./contender.mjs";

const HEADER_BYTES = 8;
const SCAN_BYTES = 1024 * 1024;

export const contender = {
  about: "writeSync, fdatasyncSync",
  promise: { append: SURVIVES.process, durable: SURVIVES.power },
  blocking: true,
  load: () => Promise.resolve({ version: process.version, open }),
};

function open(folder, { durable }) {
  const fd = openSync(join(folder, "log"), "a+");
  let bytes = fstatSync(fd).size;
  let recordBytes = 0;
  if (bytes > 0) {
    const header = Buffer.alloc(HEADER_BYTES);
    readSync(fd, header, 0, HEADER_BYTES, 0);
    recordBytes = header.readUInt32LE(0) + HEADER_BYTES;
  }
  const write = (buffer) => {
    writeSync(fd, buffer);
    bytes += buffer.length;
    if (durable) fdatasyncSync(fd);
  };
  return {
    append(data) {
      recordBytes = data.length + HEADER_BYTES;
      write(record(data));
    },
    appendBatch(list) {
      recordBytes = list[0].length + HEADER_BYTES;
      write(Buffer.concat(list.map(record)));
    },
    get(index) {
      const buffer = Buffer.allocUnsafe(recordBytes);
      readSync(fd, buffer, 0, recordBytes, index * recordBytes);
      return checked(buffer);
    },
    scan(visit) {
      const count = Math.max(1, Math.floor(SCAN_BYTES / recordBytes));
      const chunk = Buffer.allocUnsafe(count * recordBytes);
      for (let at = 0; at < bytes; at += chunk.length) {
        const read = readSync(fd, chunk, 0, chunk.length, at);
        for (let from = 0; from < read; from += recordBytes) {
          visit(checked(chunk.subarray(from, from + recordBytes)));
        }
      }
    },
    count: () => recordBytes === 0 ? 0 : Math.floor(bytes / recordBytes),
    close: () => closeSync(fd),
  };
}

function record(data) {
  const buffer = Buffer.allocUnsafe(HEADER_BYTES + data.length);
  buffer.writeUInt32LE(data.length, 0);
  buffer.writeUInt32LE(crc32(data), 4);
  buffer.set(data, HEADER_BYTES);
  return buffer;
}

function checked(buffer) {
  const data = buffer.subarray(HEADER_BYTES);
  if (crc32(data) !== buffer.readUInt32LE(4)) throw new Error("Damaged record");
  return data;
}
