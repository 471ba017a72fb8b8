/** src/entry_iterator.ts: what `entries()` gives is what a generator is. */
import { describe, it } from "node:test";
import {
  memoryStorage,
  openWalSync,
  type Wal,
  WalClosedError,
} from "../mod.ts";
import { assertEquals, assertStrictEquals, assertThrows } from "./_assert.ts";

function makeLog(): Wal {
  const wal = openWalSync("log", { storage: memoryStorage() });
  wal.appendBatchSync(["one", "two", "three", "four"]);
  return wal;
}

describe("EntryIterator", () => {
  it("is what a generator is", () => {
    using wal = makeLog();
    const entries = wal.entries({ from: 2, limit: 3 });
    assertStrictEquals(entries[Symbol.iterator](), entries);
    assertEquals(entries.next().value?.index, 2);
    assertEquals(entries.return(), { done: true, value: undefined });
    assertEquals(entries.next(), { done: true, value: undefined });
    const other = wal.entries({ limit: 1 });
    const error = new Error("of the loop");
    assertThrows(() => other.throw(error), Error, "of the loop");
    assertEquals([...other], []);
    assertEquals([...wal.entries({ limit: 2 })].length, 2);
    const indexes = wal.entries({ limit: 3 }).map(({ index }) => index);
    assertEquals([...indexes], [1, 2, 3]);
  });

  it("has ended once it has thrown", () => {
    const wal = makeLog();
    const entries = wal.entries();
    entries.next();
    wal.closeSync();
    assertThrows(() => entries.next(), WalClosedError);
    assertEquals(entries.next(), { done: true, value: undefined });
  });
});
