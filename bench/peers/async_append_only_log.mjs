/**
 * async-append-only-log, the log under ssb-db2. `append` calls back when the
 * record is in a block in memory; blocks are written and synced after
 * `writeTimeout`, and `onDrain` tells when (its README). Its default of
 * 250 ms stands where nothing waits for it; callers that wait get the least
 * that it takes, 1 ms. Records are read by their offsets, which a program
 * keeps, or finds by a scan. It checks no record.
 */
import { join } from "node:path";
import { Buffer } from "node:buffer";
import { load, SURVIVES, versionOf } from "./contender.mjs";

export const contender = {
  about: "log of blocks, JavaScript",
  promise: { append: SURVIVES.nothing, durable: SURVIVES.power },
  // A record lies in one block of 64 KiB, behind 2 bytes of length, and the
  // block keeps 2 bytes for its end.
  entryBytesMax: 65532,
  // And so does a transaction.
  batchBytesMax: 60000,
  load() {
    const openLog = load("async-append-only-log");
    const open = async (folder, { durable }) => {
      const options = { writeTimeout: durable ? 1 : 250 };
      const log = openLog(join(folder, "log"), options);
      const offsets = [];
      await stream(log, ({ offset }) => offsets.push(offset), false);
      return logOf(log, offsets, durable);
    };
    const version = versionOf("async-append-only-log");
    return Promise.resolve({ version, open });
  },
};

function logOf(log, offsets, durable) {
  const drained = () => new Promise((settle) => log.onDrain(settle));
  const appended = (bytes) =>
    new Promise((settle, fail) =>
      log.append(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), (
        error,
        offset,
      ) => {
        if (error) return fail(error);
        offsets.push(offset);
        settle();
      })
    );
  const append = durable
    ? async (bytes) => {
      await appended(bytes);
      await drained();
    }
    : appended;
  return {
    append,
    appendSoon: append,
    async appendBatch(list) {
      const buffers = list.map((bytes) => Buffer.from(bytes));
      await new Promise((settle, fail) =>
        log.appendTransaction(buffers, (error, last) => {
          if (error) return fail(error);
          for (const offset of [last].flat()) offsets.push(offset);
          settle();
        })
      );
      if (durable) await drained();
    },
    get: (index) =>
      new Promise((settle, fail) =>
        log.get(
          offsets[index],
          (error, value) => error ? fail(error) : settle(value),
        )
      ),
    scan: (visit) => stream(log, ({ value }) => visit(value), true),
    count: () => offsets.length,
    settle: drained,
    close: () =>
      new Promise((settle, fail) =>
        log.close((error) => error ? fail(error) : settle())
      ),
  };
}

function stream(log, visit, values) {
  return new Promise((settle, fail) =>
    log.stream({ values, offsets: true }).pipe({
      paused: false,
      write: (record) => visit(values ? record : { offset: record }),
      end: (error) => error && error !== true ? fail(error) : settle(),
    })
  );
}
