import { describe, it } from "node:test";
import {
  EmptyDataError,
  type Encoder,
  type Entry,
  type EntryInput,
  IndexConflictError,
  IndexOutOfRangeError,
  InvalidEntryError,
  JsonEncoder,
  StorageError,
  Transaction,
  TransactionExpiredError,
  TransactionNotFoundError,
  TransactionNotPendingError,
  TransactionTooLargeError,
  type Wal,
  WalClosedError,
  WalError,
  WalFailedError,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  assertLessOrEqual,
  assertMatch,
  assertNotStrictEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import {
  assertVerified,
  block,
  entries,
  isSettled,
  listFiles,
  onEach,
  onEachTwin,
  settled,
  simulatedPlace,
  texts,
  turn,
  TWINS,
} from "./_wal.ts";

/** The encoder of JSON under another name; `hook` runs in each encoding. */
function hooked(): { format: Encoder; hook: (() => void) | undefined } {
  const own = new JsonEncoder();
  const made = {
    hook: undefined as (() => void) | undefined,
    format: {
      name: "hooked",
      byteLength: (record) => own.byteLength(record),
      encode: (record) => {
        made.hook?.();
        return own.encode(record);
      },
      encodeInto: (record, target) => own.encodeInto(record, target),
      decode: (bytes) => own.decode(bytes),
      decodeView: (bytes) => own.decodeView(bytes),
    } satisfies Encoder,
  };
  return made;
}

/** An entry whose `data` is read by the caller's own program. */
function acting(act: () => void, data = "outer"): EntryInput {
  return {
    get data(): string {
      act();
      return data;
    },
  };
}

const ids = (wal: Wal) => Array.from(wal, (entry) => entry.transactionId);

describe("Transaction: what is stored", () => {
  onEachTwin(
    "begin, add, commit: the entries come in together, with its id",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.append(wal, "before");
      const tx = wal.beginTransaction();
      assert(tx instanceof Transaction);
      assertMatch(tx.id, /^tx_[0-9a-f]{32}$/);
      assertEquals([tx.state, tx.size, tx.indexes], ["pending", 0, undefined]);
      for (const text of entries(3)) {
        assertStrictEquals(tx.add(text), undefined);
      }
      assertEquals([tx.state, tx.size, tx.indexes], ["pending", 3, undefined]);
      assertEquals(texts(wal), ["before"]);
      assertEquals(wal.stats().appendCount, 1);
      const indexes = await twin.commit(tx);
      assertEquals(indexes, [2, 3, 4]);
      assertEquals([tx.state, tx.size], ["committed", 3]);
      assertEquals(tx.indexes, [2, 3, 4]);
      await twin.append(wal, "after");
      assertEquals(wal.durableIndex, 5);
      const expected = [undefined, tx.id, tx.id, tx.id, undefined];
      assertEquals(ids(wal), expected);
      assertEquals(wal.get(3).toJSON().transactionId, tx.id);
      await twin.close(wal);
      assertVerified(place);
      using again = await twin.open(place);
      assertEquals(texts(again), ["before", ...entries(3), "after"]);
      assertEquals(ids(again), expected);
    },
  );

  onEach("the list of indexes is the caller's", async (place) => {
    await using wal = await place.open();
    const tx = wal.beginTransaction();
    tx.add("a");
    const indexes = await tx.commit();
    indexes.push(9);
    (tx.indexes as number[]).push(8);
    assertEquals(tx.indexes, [1]);
  });

  for (const format of ["binary", "json", "custom"] as const) {
    onEachTwin(
      `the id is kept in the format ${format}`,
      async (place, twin) => {
        const options = {
          format: format === "custom" ? hooked().format : format,
        };
        const wal = await twin.open(place, options);
        const tx = wal.beginTransaction();
        tx.add("šÉ🦭");
        tx.add(new Uint8Array(0));
        await twin.commit(tx);
        await twin.append(wal, wal.get(1));
        await twin.close(wal);
        const again = await twin.open(place, options);
        // One that is passed on is no entry of the transaction any more.
        assertEquals(ids(again), [tx.id, tx.id, undefined]);
        assertEquals(texts(again), ["šÉ🦭", "", "šÉ🦭"]);
        await twin.close(again);
        assertVerified(place);
        // Only the caller has the encoder.
        place.sound = format !== "custom";
      },
    );
  }

  onEachTwin("one entry, and a thousand of them", async (place, twin) => {
    const wal = await twin.open(place);
    const one = wal.beginTransaction();
    one.add("alone");
    assertEquals(await twin.commit(one), [1]);
    const many = wal.beginTransaction();
    for (const text of entries(1000)) many.add(text);
    assertEquals((await twin.commit(many)).at(-1), 1001);
    await twin.close(wal);
    assertVerified(place);
    using again = await twin.open(place);
    assertEquals(texts(again), ["alone", ...entries(1000)]);
    assertEquals(new Set(ids(again)), new Set([one.id, many.id]));
  });

  onEach("ids are unique, on logs beside each other, too", async (place) => {
    const wal = await place.open();
    const seen = new Set<string>();
    for (let i = 0; i < 1500; i++) {
      const tx = wal.beginTransaction();
      seen.add(tx.id);
      tx.rollback();
    }
    await wal.close();
    using again = place.openSync();
    for (let i = 0; i < 500; i++) seen.add(again.beginTransaction().id);
    assertEquals(seen.size, 2000);
    for (const id of seen) assertMatch(id, /^tx_[0-9a-f]{32}$/);
  });

  onEachTwin("data is copied at add", async (place, twin) => {
    await using wal = await twin.open(place);
    const tx = wal.beginTransaction();
    const bytes = new Uint8Array([1, 2, 3, 4]);
    const shared = new Uint8Array(new SharedArrayBuffer(2)) as Uint8Array;
    const fields = { data: bytes, term: 3, timestampNs: 5n };
    tx.add(bytes);
    tx.add(bytes.subarray(1, 3));
    tx.add(fields);
    tx.add(shared);
    tx.add(Buffer.from("node"));
    bytes.fill(9);
    shared.fill(9);
    fields.term = 9;
    fields.timestampNs = 9n;
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    await twin.commit(tx);
    const data = Array.from(wal, (entry) => [...entry.data]);
    const word = [...new TextEncoder().encode("node")];
    assertEquals(data, [[1, 2, 3, 4], [2, 3], [1, 2, 3, 4], [0, 0], word]);
    assertEquals([wal.get(3).term, wal.get(3).timestampNs], [3, 5n]);
  });

  onEachTwin("terms default to the last entry's", async (place, twin) => {
    await using wal = await twin.open(place);
    const tx = wal.beginTransaction();
    tx.add("a");
    tx.add({ data: "b", term: 7 });
    tx.add("c");
    tx.add({ data: "d", term: 2 });
    tx.add({ data: "e", term: undefined });
    // The term counts that the log has when it is committed.
    await twin.append(wal, { data: "other", term: 5 });
    await twin.commit(tx);
    await twin.append(wal, "last");
    const terms = Array.from(wal, ({ term }) => term);
    assertEquals(terms, [5, 5, 7, 7, 2, 2, 2]);
  });

  onEachTwin(
    "an Entry passed on keeps data, term and exact time",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const timestampNs = -1_700_000_000_123_456_789n;
      await twin.append(wal, { data: "one", term: 5, timestampNs });
      await twin.append(wal, { data: "two", term: 9 });
      const tx = wal.beginTransaction();
      for (const entry of wal) tx.add(entry);
      tx.add({ data: "dated", timestamp: new Date(7), timestampNs: 9n });
      tx.add({ data: "dated", timestamp: new Date(7) });
      await twin.commit(tx);
      const fields = ({ data, term, timestampNs }: Entry) => ({
        data: [...data],
        term,
        timestampNs,
      });
      assertEquals(fields(wal.get(3)), fields(wal.get(1)));
      assertEquals(fields(wal.get(4)), fields(wal.get(2)));
      assertEquals(wal.get(5).timestampNs, 9n);
      assertEquals(wal.get(6).timestampNs, 7_000_000n);
    },
  );

  it("entries without a time get that of the commit", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const tx = wal.beginTransaction({ timeoutMs: 1_000_000 });
    tx.add("early");
    disk.clock.advance(50_000);
    tx.add({ data: "late", timestamp: undefined });
    disk.clock.advance(50_000);
    const conflict = tx.commit({ expectedIndex: 7 });
    await assertRejects(() => conflict, IndexConflictError);
    disk.clock.advance(50_000);
    const before = disk.clock.nowMs();
    await settled(disk, tx.commit());
    const after = disk.clock.nowMs();
    for (const { timestamp } of wal) {
      assertGreaterOrEqual(timestamp.getTime(), before);
      assertLessOrEqual(timestamp.getTime(), after);
    }
    await settled(disk, wal.close());
  });

  it("a commit that failed is stamped with the time of the next try", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    disk.failNext("create", "ENOSPC"); // So that there is no spare.
    await settled(disk, wal.append(block(50_000, 1)));
    const tx = wal.beginTransaction();
    tx.add(block(50_000, 2));
    disk.failNext("create", "ENOSPC");
    await assertRejects(() => tx.commit(), StorageError);
    await settled(disk, wal.append({ data: "term", term: 4 }));
    disk.clock.advance(5000);
    const before = disk.clock.nowMs();
    await settled(disk, tx.commit());
    assertGreaterOrEqual(wal.get(3).timestamp.getTime(), before);
    assertEquals(wal.get(3).term, 4);
    await settled(disk, wal.close());
  });
});

describe("Transaction.add(): what is refused", () => {
  onEachTwin(
    "wrong entries: nothing is added, and it stays pending",
    async (place, twin) => {
      await using wal = await twin.open(place, { maxEntryBytes: 10 });
      const tx = wal.beginTransaction();
      tx.add("good");
      for (const none of [undefined, null, {}, { data: null }, { term: 1 }]) {
        const error = assertThrows(
          () => tx.add(none as string),
          EmptyDataError,
        );
        assertStrictEquals(error.code, "EMPTY_DATA");
      }
      const wrongTypes: unknown[] = [
        5,
        5n,
        true,
        ["x"],
        new ArrayBuffer(1),
        () => "x",
      ];
      for (const odd of wrongTypes) {
        for (const input of [odd, { data: odd }]) {
          assertThrows(() => tx.add(input as string), TypeError, "expected");
        }
      }
      for (const large of ["x".repeat(11), "é".repeat(6), block(11, 1)]) {
        assertThrows(() => tx.add(large), InvalidEntryError, "maxEntryBytes");
        const fields = { data: large };
        assertThrows(() => tx.add(fields), InvalidEntryError, "maxEntryBytes");
      }
      const wrong: [object, new () => Error][] = [
        [{ term: -1 }, RangeError],
        [{ term: 2 ** 53 }, RangeError],
        [{ term: "1" }, TypeError],
        [{ timestamp: 1 }, TypeError],
        [{ timestamp: new Date(NaN) }, RangeError],
        [{ timestampNs: 2n ** 63n }, RangeError],
        [{ timestampNs: null }, TypeError],
      ];
      for (const [fields, errorClass] of wrong) {
        const input = { data: "x", ...fields };
        assertThrows(() => tx.add(input), errorClass, "Cannot");
      }
      const mine = new Error("mine");
      const failing = acting(() => {
        throw mine;
      });
      assertStrictEquals(assertThrows(() => tx.add(failing)), mine);
      assertEquals([tx.state, tx.size, wal.nextIndex], ["pending", 1, 1]);
      assertEquals(await twin.commit(tx), [1]);
      assertEquals(texts(wal), ["good"]);
    },
  );

  onEachTwin(
    "above maxTransactionEntries: TransactionTooLargeError",
    async (place, twin) => {
      await using wal = await twin.open(place, { maxTransactionEntries: 3 });
      const tx = wal.beginTransaction();
      for (const text of entries(3)) tx.add(text);
      for (let i = 0; i < 2; i++) {
        const error = assertThrows(
          () => tx.add("one too many"),
          TransactionTooLargeError,
          tx.id,
        );
        assertStrictEquals(error.code, "TRANSACTION_TOO_LARGE");
        assertEquals([error.transactionId, error.entriesMax], [tx.id, 3]);
        assertStringIncludes(error.message, "Cannot");
        assertStringIncludes(error.message, "3");
        assertInstanceOf(error, WalError);
      }
      assertEquals([tx.state, tx.size], ["pending", 3]);
      assertEquals(await twin.commit(tx), [1, 2, 3]);
      assertEquals(texts(wal), entries(3));
    },
  );

  onEach("the default is 1 000 entries, and the least is 1", async (place) => {
    const wal = await place.open();
    const tx = wal.beginTransaction();
    for (let i = 0; i < 1000; i++) tx.add("x");
    const error = assertThrows(() => tx.add("x"), TransactionTooLargeError);
    assertEquals([error.entriesMax, tx.size], [1000, 1000]);
    await wal.close();
    using again = place.openSync({ maxTransactionEntries: 1 });
    const small = again.beginTransaction();
    small.add("x");
    assertThrows(() => small.add("x"), TransactionTooLargeError);
    small.commitSync();
    assertEquals(again.length, 1);
  });

  onEachTwin(
    "a getter of the entry ends the transaction: nothing is added",
    async (place, twin) => {
      const wal = await twin.open(place, { maxTransactionEntries: 2 });
      const run = (act: (tx: Transaction) => void) => {
        const tx = wal.beginTransaction();
        tx.add("first");
        return { tx, add: () => tx.add(acting(() => act(tx))) };
      };
      const committed = run((tx) => void tx.commitSync());
      const error = assertThrows(committed.add, TransactionNotPendingError);
      assertStrictEquals(error.state, "committed");
      assertEquals([committed.tx.size, committed.tx.indexes], [1, [1]]);

      const rolledBack = run((tx) => tx.rollback());
      assertThrows(rolledBack.add, TransactionNotPendingError);
      assertEquals(rolledBack.tx.state, "aborted");

      const disposed = run((tx) => tx[Symbol.dispose]());
      assertThrows(disposed.add, TransactionNotPendingError);

      const filled = run((tx) => tx.add("second"));
      assertThrows(filled.add, TransactionTooLargeError);
      assertEquals([filled.tx.state, filled.tx.size], ["pending", 2]);
      await twin.commit(filled.tx);

      const nested = run((tx) => {
        if (tx.size === 1) wal.appendSync("beside");
      });
      nested.add();
      await twin.commit(nested.tx);
      const expected = ["first", "first", "second", "beside", "first", "outer"];
      assertEquals(texts(wal), expected);

      const closed = run(() => wal.closeSync());
      assertThrows(closed.add, WalClosedError);
      assertEquals(closed.tx.state, "aborted");
      using again = await twin.open(place);
      assertEquals(texts(again), expected);
    },
  );

  onEachTwin("a getter that adds comes first", async (place, twin) => {
    await using wal = await twin.open(place);
    const tx = wal.beginTransaction();
    tx.add(acting(() => tx.add({ data: "inner", term: 4, timestampNs: 1n })));
    assertEquals(tx.size, 2);
    await twin.commit(tx);
    assertEquals(texts(wal), ["inner", "outer"]);
    assertEquals([wal.get(1).timestampNs, wal.get(1).term], [1n, 4]);
    assertGreater(wal.get(2).timestampNs, 1n);
  });
});

describe("Transaction.commit()", () => {
  onEachTwin(
    "of an empty one is [] and writes nothing",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const before = wal.stats();
      const tx = wal.beginTransaction();
      assertEquals(await twin.commit(tx), []);
      assertEquals([tx.state, tx.size, tx.indexes], ["committed", 0, []]);
      assertEquals(wal.getTransactionState(tx.id), "committed");
      const other = wal.beginTransaction();
      assertEquals(await twin.commit(other, { durable: true }), []);
      const after = wal.stats();
      assertEquals(after.bytesWritten, before.bytesWritten);
      assertEquals(after.appendCount, 0);
      assertEquals(wal.nextIndex, 1);
    },
  );

  onEachTwin(
    "a second time, or after a rollback: TransactionNotPendingError",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const ended = {
        committed: wal.beginTransaction(),
        aborted: wal
          .beginTransaction(),
      };
      for (const tx of Object.values(ended)) tx.add("once");
      await twin.commit(ended.committed);
      ended.aborted.rollback();
      for (const state of ["committed", "aborted"] as const) {
        const tx = ended[state];
        const refused = [
          await assertRejects(
            () => twin.commit(tx),
            TransactionNotPendingError,
          ),
          assertThrows(() => tx.add("more"), TransactionNotPendingError),
          assertThrows(() => tx.rollback(), TransactionNotPendingError),
        ];
        for (const error of refused) {
          assertStrictEquals(error.code, "TRANSACTION_NOT_PENDING");
          assertEquals([error.transactionId, error.state], [tx.id, state]);
          assertStringIncludes(error.message, tx.id);
          assertStringIncludes(error.message, state);
          assertStringIncludes(error.message, "expected");
        }
        tx[Symbol.dispose]();
        assertEquals(tx.state, state);
      }
      assertEquals(texts(wal), ["once"]);
    },
  );

  onEach("has written when it returns; a second one is late", async (place) => {
    await using wal = await place.open();
    const tx = wal.beginTransaction();
    tx.add("a");
    tx.add("b");
    const first = tx.commit();
    assertEquals([wal.lastIndex, tx.state], [2, "committed"]);
    assertEquals(tx.indexes, [1, 2]);
    const second = tx.commit();
    assertThrows(() => tx.commitSync(), TransactionNotPendingError);
    await assertRejects(() => second, TransactionNotPendingError);
    assertEquals(await first, [1, 2]);
    assertEquals(texts(wal), ["a", "b"]);
  });

  onEach("never throws", async (place) => {
    const wal = await place.open();
    const tx = wal.beginTransaction();
    tx.add("a");
    const bad = [
      () => tx.commit({ expectedIndex: 9 }),
      () => tx.commit({ signal: AbortSignal.abort() }),
      () => tx.commit({ unknown: 1 } as object),
      () => tx.commit(null as unknown as object),
      () =>
        tx.commit({
          get durable(): boolean {
            throw new Error("getter");
          },
        }),
    ];
    for (const call of bad) {
      const promise = call();
      assertInstanceOf(promise, Promise);
      await assertRejects(() => promise);
      assertEquals(tx.state, "pending");
    }
    const done = wal.beginTransaction();
    done.rollback();
    await assertRejects(() => done.commit(), TransactionNotPendingError);
    await wal.close();
    for (const call of [...bad, () => done.commit()]) {
      await assertRejects(call, WalClosedError);
    }
  });

  onEachTwin(
    "wrong options are refused, and it stays pending",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const tx = wal.beginTransaction();
      tx.add("a");
      const wrong: [unknown, string][] = [
        [{ expectedindex: 1 }, '"expectedindex"'],
        [{ timeoutMs: 1 }, '"timeoutMs"'],
        [{ durable: 1 }, "durable is 1"],
        [{ durable: null }, "durable is null"],
        [{ expectedIndex: "1" }, 'expectedIndex is "1"'],
        [{ expectedIndex: null }, "expectedIndex is null"],
        [{ signal: {} }, "signal is"],
        [{ signal: null }, "signal is null"],
        [null, "null"],
        ["always", "always"],
      ];
      for (const [options, found] of wrong) {
        const error = await assertRejects(
          () => twin.commit(tx, options as object),
          TypeError,
          found,
        );
        assertStringIncludes(error.message, "expected");
      }
      for (const expectedIndex of [NaN, 1.5, Infinity, 2 ** 53]) {
        await assertRejects(
          () => twin.commit(tx, { expectedIndex }),
          RangeError,
        );
      }
      assertEquals([tx.state, tx.size, wal.nextIndex], ["pending", 1, 1]);
      const none = { signal: undefined, expectedIndex: undefined };
      assertEquals(await twin.commit(tx, { ...none, durable: undefined }), [1]);
    },
  );

  onEachTwin(
    "expectedIndex: a conflict leaves it pending",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const tx = wal.beginTransaction();
      tx.add("a");
      tx.add("b");
      await twin.append(wal, "first");
      for (const expectedIndex of [0, 1, 3, -1, Number.MAX_SAFE_INTEGER]) {
        const error = await assertRejects(
          () => twin.commit(tx, { expectedIndex }),
          IndexConflictError,
        );
        const { nextIndex } = error;
        assertEquals([error.expectedIndex, nextIndex], [expectedIndex, 2]);
        assertEquals([tx.state, tx.size], ["pending", 2]);
      }
      assertEquals(await twin.commit(tx, { expectedIndex: 2 }), [2, 3]);
      const empty = wal.beginTransaction();
      await assertRejects(
        () => twin.commit(empty, { expectedIndex: 2 }),
        IndexConflictError,
      );
      assertEquals(empty.state, "pending");
      assertEquals(await twin.commit(empty, { expectedIndex: 4 }), []);
      assertEquals(texts(wal), ["first", "a", "b"]);
    },
  );

  onEachTwin(
    "an aborted signal rejects with its reason, and it stays pending",
    async (place, twin) => {
      await using wal = await twin.open(place);
      const tx = wal.beginTransaction();
      tx.add("a");
      for (const reason of [new Error("mine"), "text", 0, undefined]) {
        const signal = AbortSignal.abort(reason);
        const thrown = await twin.commit(tx, { signal }).then(
          () => ({ none: true }),
          (error: unknown) => ({ error }),
        );
        assertEquals(thrown, { error: signal.reason });
        assertEquals([tx.state, wal.nextIndex], ["pending", 1]);
      }
      const { signal } = new AbortController();
      assertEquals(await twin.commit(tx, { signal }), [1]);
    },
  );

  it("a signal that aborts after the call changes nothing", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const controller = new AbortController();
    const tx = wal.beginTransaction();
    tx.add("a");
    const pending = tx.commit({ signal: controller.signal });
    controller.abort();
    assertFalse(await isSettled(pending));
    assertEquals(await settled(disk, pending), [1]);
    await settled(disk, wal.close());
  });

  onEachTwin(
    "getters of its options run before it is looked at",
    async (place, twin) => {
      const wal = await twin.open(place);
      const options = (act: () => void) => ({
        get expectedIndex(): undefined {
          act();
          return undefined;
        },
      });
      const twice = wal.beginTransaction();
      twice.add("twice");
      await assertRejects(
        () => twin.commit(twice, options(() => void twice.commitSync())),
        TransactionNotPendingError,
      );
      assertEquals(twice.indexes, [1]);
      const gone = wal.beginTransaction();
      gone.add("gone");
      await assertRejects(
        () => twin.commit(gone, options(() => gone.rollback())),
        TransactionNotPendingError,
      );
      const more = wal.beginTransaction();
      more.add("more");
      const add = options(() => more.add("and more"));
      assertEquals(await twin.commit(more, add), [2, 3]);
      const late = wal.beginTransaction();
      late.add("late");
      await assertRejects(
        () => twin.commit(late, options(() => wal.closeSync())),
        WalClosedError,
      );
      assertEquals(late.state, "aborted");
      using again = await twin.open(place);
      assertEquals(texts(again), ["twice", "more", "and more"]);
    },
  );

  onEachTwin(
    "beside appends and other transactions: none is mixed with another",
    async (place, twin) => {
      const wal = await twin.open(place);
      const transactions = [1, 2, 3].map(() => wal.beginTransaction());
      const pending: Promise<unknown>[] = [];
      for (let round = 0; round < 4; round++) {
        for (const [nth, tx] of transactions.entries()) {
          tx.add(`${nth}`);
          pending.push(twin.append(wal, "-"));
        }
      }
      const order = [2, 0, 1];
      for (const nth of order) {
        pending.push(twin.commit(transactions[nth]!));
        pending.push(twin.appendBatch(wal, ["+", "+"]));
      }
      await Promise.all(pending);
      const expected = "-".repeat(12) + "2222++0000++1111++";
      assertEquals(texts(wal).join(""), expected);
      const [first] = transactions[0]!.indexes!;
      assertEquals(wal.get(first!).text(), "0");
      await twin.close(wal);
      assertVerified(place);
      using again = await twin.open(place);
      assertEquals(texts(again).join(""), expected);
      const owners = transactions.map(({ id }) => id);
      for (const entry of again) {
        const owner = owners[Number(entry.text())];
        const own = /\d/.test(entry.text());
        assertStrictEquals(entry.transactionId, own ? owner : undefined);
      }
    },
  );

  onEachTwin("rotates when it does not fit", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.append(wal, block(40_000, 1));
    const small = wal.beginTransaction();
    for (const fill of [2, 3, 4]) small.add(block(10_000, fill));
    await twin.commit(small);
    assertEquals(wal.segments().length, 2);
    // Larger than a segment, it gets one of its own size.
    const large = wal.beginTransaction();
    for (const fill of [5, 6, 7, 8]) large.add(block(60_000, fill));
    await twin.commit(large);
    const [, , third] = wal.segments();
    assertGreater(third!.bytes, 4 * 60_000);
    assertEquals([third!.firstIndex, third!.lastIndex], [5, 8]);
    await twin.append(wal, "after");
    await twin.close(wal);
    assertVerified(place);
    using again = await twin.open(place);
    assertEquals(again.length, 9);
    for (const entry of again.entries({ to: 8 })) {
      assertEquals(entry.data[0], entry.index);
      assertEquals(entry.data.at(-1), entry.index);
    }
    assertEquals(ids(again).slice(1, 8), [
      ...Array(3).fill(small.id),
      ...Array(4).fill(large.id),
    ]);
  });

  onEachTwin(
    "at the last index that there is: all or nothing",
    async (place, twin) => {
      await using wal = await twin.open(place);
      await twin.reset(wal, Number.MAX_SAFE_INTEGER);
      const two = wal.beginTransaction();
      two.add("a");
      two.add("b");
      await assertRejects(() => twin.commit(two), RangeError, "2^53");
      assertEquals([two.state, wal.length], ["pending", 0]);
      const one = wal.beginTransaction();
      one.add("last");
      const indexes = await twin.commit(one);
      assertEquals(indexes, [Number.MAX_SAFE_INTEGER]);
      assertEquals(texts(wal), ["last"]);
    },
  );
});

describe("Transaction.commit(): when it counts as done", () => {
  it("as sync says, and durable overrides it", async () => {
    for (const sync of ["always", "interval", "never"] as const) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open({ sync }));
      const commit = (durable?: boolean) => {
        const tx = wal.beginTransaction();
        tx.add("x");
        return tx.commit({ durable });
      };
      const usual = commit();
      assertEquals(await isSettled(usual), sync !== "always", sync);
      await settled(disk, usual);
      assertEquals(wal.durableIndex, sync === "always" ? 1 : 0);
      assertEquals(await commit(false), [2]);
      const waits = commit(true);
      assertFalse(await isSettled(waits), sync);
      await settled(disk, waits);
      assertEquals(wal.durableIndex, 3);
      const blocking = wal.beginTransaction();
      blocking.add("y");
      blocking.commitSync({ durable: false });
      assertEquals(wal.durableIndex, 3);
      const last = wal.beginTransaction();
      last.add("z");
      last.commitSync({ durable: true });
      assertEquals(wal.durableIndex, 5);
      await settled(disk, wal.close());
    }
  });

  it("many at once share one sync", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    await settled(disk, wal.append("first"));
    const before = wal.stats().syncCount;
    const pending = Array.from({ length: 32 }, () => {
      const tx = wal.beginTransaction();
      tx.add("a");
      tx.add("b");
      return tx.commit();
    });
    await settled(disk, Promise.all(pending));
    assertEquals(wal.stats().syncCount - before, 1);
    assertEquals([wal.length, wal.durableIndex], [65, 65]);
    await settled(disk, wal.close());
  });

  for (const left of [0, 1, 2]) {
    it(`cut to ${left} entries while it waits: rejected, committed`, async () => {
      for (const begun of [false, true]) {
        const { disk, ...place } = simulatedPlace();
        const wal = await settled(disk, place.open());
        const tx = wal.beginTransaction();
        for (const text of entries(3)) tx.add(text);
        const commit = tx.commit();
        if (begun) await turn();
        const cut = wal.truncateAfter(left);
        const error = await assertRejects(() => commit, IndexOutOfRangeError);
        assertEquals([error.reason, error.index], ["truncated", 3]);
        assertEquals(tx.state, "committed");
        assertEquals(tx.indexes, [1, 2, 3]);
        assertEquals(wal.getTransactionState(tx.id), "committed");
        await settled(disk, cut);
        assertEquals(texts(wal), entries(left));
        await settled(disk, wal.close());
        assertVerified(place);
        const again = await settled(disk, place.open());
        assertEquals(ids(again), Array(left).fill(tx.id));
        await settled(disk, again.close());
      }
    });
  }

  it("cut behind it, it settles", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const tx = wal.beginTransaction();
    for (const text of entries(3)) tx.add(text);
    const commit = tx.commit();
    const lost = assertRejects(() => wal.append("lost"), IndexOutOfRangeError);
    const cut = wal.truncateAfter(3);
    assertEquals(await settled(disk, commit), [1, 2, 3]);
    await settled(disk, Promise.all([lost, cut]));
    await settled(disk, wal.close());
  });

  it("reset while it waits: rejected, committed", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const tx = wal.beginTransaction();
    tx.add("a");
    const commit = tx.commit();
    const reset = wal.reset(100);
    const error = await assertRejects(() => commit, IndexOutOfRangeError);
    assertEquals([error.reason, tx.state], ["truncated", "committed"]);
    await settled(disk, reset);
    await settled(disk, wal.close());
  });
});

describe("Transaction.commit() that fails before it is written", () => {
  for (const twin of TWINS) {
    it(`no space for the next segment: pending, and tried again [${twin.name}]`, async () => {
      const { disk, ...place } = simulatedPlace();
      const done = <T>(promise: Promise<T>) => settled(disk, promise);
      const wal = await done(twin.open(place));
      disk.failNext("create", "ENOSPC"); // So that there is no spare.
      await done(twin.append(wal, block(50_000, 1)));
      const files = listFiles(place);
      const tx = wal.beginTransaction();
      tx.add(block(20_000, 2));
      tx.add(block(20_000, 3));
      for (const operation of ["create", "write", "rename"] as const) {
        disk.failNext(operation, "ENOSPC");
        const error = await assertRejects(
          () => done(twin.commit(tx)),
          StorageError,
          "ENOSPC",
        );
        assertStrictEquals(error.systemCode, "ENOSPC");
        assertEquals([tx.state, tx.size], ["pending", 2]);
        assertEquals(tx.indexes, undefined);
        assertEquals(wal.getTransactionState(tx.id), "pending");
        assertEquals([wal.state, wal.lastIndex], ["open", 1]);
        assertEquals(listFiles(place), files, operation);
      }
      // What fits goes on in between.
      assertEquals(await done(twin.append(wal, "between")), 2);
      tx.add(block(10, 4));
      assertEquals(await done(twin.commit(tx)), [3, 4, 5]);
      await done(twin.close(wal));
      assertVerified(place);
      const again = await done(twin.open(place));
      assertEquals(again.recovery.outcome, "clean");
      assertEquals(again.get(4).data, block(20_000, 3));
      assertEquals(again.get(5).transactionId, tx.id);
      await done(twin.close(again));
    });

    it(`a write that fails in the middle: taken back, tried again [${twin.name}]`, async () => {
      const place = simulatedPlace(1, { mapped: false });
      const { disk } = place;
      const done = <T>(promise: Promise<T>) => settled(disk, promise);
      const wal = await done(twin.open(place));
      await done(twin.append(wal, "first"));
      const tx = wal.beginTransaction();
      for (const fill of [1, 2, 3]) tx.add(block(5000, fill));
      for (let i = 0; i < 4; i++) {
        disk.failNext("write", i % 2 === 0 ? "ENOSPC" : "EIO");
        await assertRejects(() => done(twin.commit(tx)), StorageError);
        assertEquals([tx.state, wal.length], ["pending", 1]);
        assertEquals(texts(wal), ["first"]);
      }
      const found = disk.fork();
      const seen = await settled(found, place.open({ storage: found }));
      assertEquals(texts(seen), ["first"]);
      assertEquals(await done(twin.append(wal, "between")), 2);
      assertEquals(await done(twin.commit(tx)), [3, 4, 5]);
      await done(twin.close(wal));
      assertVerified(place);
      const again = await done(twin.open(place));
      assertEquals(again.get(5).data, block(5000, 3));
      await done(twin.close(again));
    });
  }

  onEachTwin(
    "an encoder that throws: pending, and tried again",
    async (place, twin) => {
      place.sound = false;
      const encoder = hooked();
      const wal = await twin.open(place, { format: encoder.format });
      const tx = wal.beginTransaction();
      tx.add("a");
      tx.add("b");
      const mine = new Error("mine");
      let calls = 0;
      encoder.hook = () => {
        if (++calls === 2) throw mine;
      };
      assertStrictEquals(await assertRejects(() => twin.commit(tx)), mine);
      assertEquals([tx.state, tx.size, wal.length], ["pending", 2, 0]);
      assertEquals(await twin.commit(tx), [1, 2]);
      assertEquals(texts(wal), ["a", "b"]);
      await twin.close(wal);
    },
  );

  onEachTwin(
    "an encoder that writes to the log: InvalidEntryError",
    async (place, twin) => {
      place.sound = false;
      const encoder = hooked();
      const { format } = encoder;
      const wal = await twin.open(place, { format });
      const once = (act: () => void) => {
        encoder.hook = () => {
          encoder.hook = undefined;
          act();
        };
      };
      const tx = wal.beginTransaction();
      tx.add("a");
      tx.add("b");
      once(() => void wal.appendSync("inner"));
      await assertRejects(() => twin.commit(tx), InvalidEntryError, "hooked");
      assertEquals([tx.state, tx.size], ["pending", 2]);
      assertEquals(await twin.commit(tx), [2, 3]);
      assertEquals(texts(wal), ["inner", "a", "b"]);
      await twin.close(wal);
    },
  );

  onEachTwin(
    "an encoder that closes the log: nothing is written",
    async (place, twin) => {
      place.sound = false;
      const encoder = hooked();
      const { format } = encoder;
      const wal = await twin.open(place, { format });
      const tx = wal.beginTransaction();
      tx.add("never");
      encoder.hook = () => wal.closeSync();
      await assertRejects(() => twin.commit(tx), WalError);
      assertEquals([tx.state, tx.indexes], ["aborted", undefined]);
      assertEquals(wal.activeTransactionCount, 0);
      using again = await twin.open(place, { format });
      assertEquals(again.length, 0);
    },
  );

  onEachTwin(
    "an encoder that uses the transaction is refused",
    async (place, twin) => {
      place.sound = false;
      const encoder = hooked();
      const { format } = encoder;
      await using wal = await twin.open(place, { format });
      const tx = wal.beginTransaction();
      tx.add("a");
      tx.add("b");
      const acts = [
        () => tx.rollback(),
        () => tx.add("c"),
        () => void tx.commitSync(),
      ];
      for (const act of acts) {
        encoder.hook = act;
        await assertRejects(() => twin.commit(tx), InvalidEntryError, tx.id);
        assertEquals([tx.state, tx.size, wal.length], ["pending", 2, 0]);
      }
      // The refusal may be caught; disposing says nothing.
      encoder.hook = () => {
        for (const act of acts) assertThrows(act, InvalidEntryError);
        tx[Symbol.dispose]();
        wal.cleanupExpiredTransactions();
      };
      assertEquals(await twin.commit(tx), [1, 2]);
      encoder.hook = undefined;
      assertEquals([tx.state, tx.size, tx.indexes], ["committed", 2, [1, 2]]);
      assertEquals(wal.getTransactionState(tx.id), "committed");
      assertEquals(texts(wal), ["a", "b"]);
    },
  );

  it("an encoder sees nothing of the commit before it is whole", async () => {
    const { disk, ...place } = simulatedPlace();
    const encoder = hooked();
    const opened = place.open({ format: encoder.format });
    const wal = await settled(disk, opened);
    await settled(disk, wal.append("before"));
    const tx = wal.beginTransaction();
    for (const text of entries(5)) tx.add(text);
    const seen: unknown[] = [];
    encoder.hook = () => {
      seen.push([wal.lastIndex, tx.state, texts(wal).length, tx.indexes]);
      assertStrictEquals(wal.at(2), undefined);
    };
    await settled(disk, tx.commit());
    encoder.hook = undefined;
    assertEquals(seen, Array(5).fill([1, "pending", 1, undefined]));
    assertEquals(wal.lastIndex, 6);
    await settled(disk, wal.close());
  });
});

describe("Transaction.commit(): a failed sync", () => {
  for (const twin of TWINS) {
    it(`it is committed, and the log is failed [${twin.name}]`, async () => {
      const { disk, ...place } = simulatedPlace();
      const done = <T>(promise: Promise<T>) => settled(disk, promise);
      const wal = await done(twin.open(place));
      await done(twin.append(wal, "good"));
      const other = wal.beginTransaction();
      other.add("other");
      const tx = wal.beginTransaction();
      tx.add("a");
      tx.add("b");
      disk.failNext(twin.name === "sync" ? "sync" : "syncSoon", "EIO");
      const error = await assertRejects(
        () => done(twin.commit(tx)),
        WalFailedError,
        "EIO",
      );
      assertStrictEquals(error.code, "FAILED");
      assertEquals([wal.state, tx.state], ["failed", "committed"]);
      assertEquals(tx.indexes, [2, 3]);
      assertEquals(wal.getTransactionState(tx.id), "committed");
      assertEquals(texts(wal), ["good", "a", "b"]);
      assertThrows(() => wal.beginTransaction(), WalFailedError);
      await assertRejects(
        () => wal.transaction((one) => one.add("x")),
        WalFailedError,
      );
      // What is pending can not be committed, and can be given up.
      await assertRejects(() => twin.commit(other), WalFailedError);
      assertEquals([other.state, other.size], ["pending", 1]);
      other.add("more");
      other.rollback();
      assertEquals(wal.getTransactionState(other.id), "aborted");
      await assertRejects(() => done(twin.close(wal)), WalFailedError);
      const again = await done(twin.open(place));
      const { length } = again;
      assert([1, 3].includes(length), `${length} entries after reopening`);
      await done(twin.close(again));
    });
  }
});

describe("Transaction.rollback()", () => {
  onEachTwin(
    "rollback() writes nothing, and leaves no trace",
    async (place, twin) => {
      const wal = await twin.open(place);
      await twin.append(wal, "before");
      const { bytesWritten } = wal.stats();
      const tx = wal.beginTransaction();
      for (const text of entries(10)) tx.add(text);
      assertStrictEquals(tx.rollback(), undefined);
      assertEquals([tx.state, tx.size], ["aborted", 10]);
      assertEquals(tx.indexes, undefined);
      assertEquals(wal.getTransactionState(tx.id), "aborted");
      assertEquals(wal.stats().bytesWritten, bytesWritten);
      assertEquals(wal.nextIndex, 2);
      assertEquals(await twin.append(wal, "after"), 2);
      await twin.close(wal);
      using again = await twin.open(place);
      assertEquals(texts(again), ["before", "after"]);
    },
  );

  onEachTwin("using: rolled back unless committed", async (place, twin) => {
    await using wal = await twin.open(place);
    let kept: Transaction;
    {
      using tx = wal.beginTransaction();
      tx.add("dropped");
      kept = tx;
    }
    assertEquals(kept.state, "aborted");
    {
      using tx = wal.beginTransaction();
      tx.add("kept");
      await twin.commit(tx);
      kept = tx;
    }
    assertEquals(kept.state, "committed");
    const failing = () => {
      using tx = wal.beginTransaction();
      kept = tx;
      tx.add("dropped");
      throw new Error("mine");
    };
    assertThrows(failing, Error, "mine");
    assertEquals(kept.state, "aborted");
    kept[Symbol.dispose]();
    kept[Symbol.dispose]();
    assertEquals(texts(wal), ["kept"]);
    assertEquals(wal.activeTransactionCount, 0);
  });

  it("disposing of one whose commit waits for its sync changes nothing", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    let commit: Promise<number[]>;
    {
      using tx = wal.beginTransaction();
      tx.add("a");
      commit = tx.commit();
    }
    assertEquals(await settled(disk, commit), [1]);
    await settled(disk, wal.close());
  });
});

describe("Wal.getTransaction() and the like", () => {
  onEachTwin("pending ones are found by their id", async (place, twin) => {
    await using wal = await twin.open(place);
    assertEquals(wal.activeTransactionCount, 0);
    const [a, b, c] = [1, 2, 3].map(() => wal.beginTransaction());
    assertEquals(wal.activeTransactionCount, 3);
    assertStrictEquals(wal.getTransaction(b!.id), b);
    assertEquals(wal.getTransactionState(b!.id), "pending");
    a!.add("a");
    await twin.commit(a!);
    b!.rollback();
    assertEquals(wal.activeTransactionCount, 1);
    assertEquals(
      [a!, b!, c!].map(({ id }) => wal.getTransactionState(id)),
      ["committed", "aborted", "pending"],
    );
    assertStrictEquals(wal.getTransaction(c!.id), c);
    for (const { id } of [a!, b!]) {
      const error = assertThrows(
        () => wal.getTransaction(id),
        TransactionNotFoundError,
        id,
      );
      assertStrictEquals(error.code, "TRANSACTION_NOT_FOUND");
      assertStrictEquals(error.transactionId, id);
      assertStringIncludes(error.message, "expected");
    }
  });

  onEach("unknown ids: TransactionNotFoundError", async (place) => {
    const wal = await place.open();
    const { id } = wal.beginTransaction();
    const unknown: unknown[] = [
      "",
      "tx_",
      `tx_${"0".repeat(32)}`,
      id.toUpperCase(),
      id.slice(3),
      `${id} `,
      undefined,
      null,
      5,
      {},
    ];
    for (const one of unknown) {
      for (
        const call of [
          () => wal.getTransaction(one as string),
          () => wal.getTransactionState(one as string),
        ]
      ) {
        const error = assertThrows(call, TransactionNotFoundError, "Cannot");
        assertInstanceOf(error, WalError);
        assertStrictEquals(error.transactionId, String(one));
      }
    }
    await wal.close();
    using again = place.openSync();
    assertThrows(() => again.getTransactionState(id), TransactionNotFoundError);
  });

  onEach("the last 1 000 ended ones are remembered", async (place) => {
    await using wal = await place.open({ sync: "never" });
    const still = wal.beginTransaction();
    const ended: Transaction[] = [];
    const end = (count: number) => {
      for (let i = 0; i < count; i++) {
        const tx = wal.beginTransaction();
        if (i % 2 === 0) tx.commitSync();
        else tx.rollback();
        ended.push(tx);
      }
    };
    const states = (list: Transaction[]) =>
      list.map(({ id }) => wal.getTransactionState(id));
    end(1000);
    assertEquals(states(ended), ended.map(({ state }) => state));
    end(3);
    for (const { id } of ended.slice(0, 3)) {
      assertThrows(
        () => wal.getTransactionState(id),
        TransactionNotFoundError,
        id,
      );
    }
    const last = ended.slice(3);
    assertEquals(last.length, 1000);
    assertEquals(states(last), last.map(({ state }) => state));
    // Pending ones do not count, however old they are.
    assertEquals(wal.getTransactionState(still.id), "pending");
    assertStrictEquals(wal.getTransaction(still.id), still);
  });
});

describe("Wal.beginTransaction(): options", () => {
  onEach("wrong types and values are refused", async (place) => {
    await using wal = await place.open();
    const wrongTypes: [unknown, string][] = [
      [null, "options is null"],
      [5, "options is 5"],
      ["5", 'options is "5"'],
      [{ timeoutMs: "5" }, 'timeoutMs is "5"'],
      [{ timeoutMs: 5n }, "timeoutMs is 5n"],
      [{ timeoutMs: null }, "timeoutMs is null"],
      [{ timeoutMs: new Date() }, "timeoutMs is"],
      [{ timeoutms: 5 }, '"timeoutms"'],
      [{ timeout: 5 }, '"timeout"'],
      [{ durable: true }, '"durable"'],
    ];
    for (const [options, found] of wrongTypes) {
      const error = assertThrows(
        () => wal.beginTransaction(options as object),
        TypeError,
        found,
      );
      assertStringIncludes(error.message, "expected");
    }
    for (const timeoutMs of [0, -1, 0.5, NaN, Infinity, 2 ** 31]) {
      assertThrows(
        () => wal.beginTransaction({ timeoutMs }),
        RangeError,
        `timeoutMs is ${timeoutMs}`,
      );
    }
    assertEquals(wal.activeTransactionCount, 0);
    for (const timeoutMs of [1, 2 ** 31 - 1, undefined]) {
      wal.beginTransaction({ timeoutMs });
    }
    wal.beginTransaction(undefined);
    wal.beginTransaction({});
    assertEquals(wal.activeTransactionCount, 5);
  });

  onEach("a getter that closes the log: WalClosedError", async (place) => {
    const wal = await place.open();
    const options = {
      get timeoutMs(): number {
        wal.closeSync();
        return 1000;
      },
    };
    assertThrows(() => wal.beginTransaction(options), WalClosedError);
    assertEquals(wal.activeTransactionCount, 0);
  });
});

describe("Transaction: its time", () => {
  it("expiresAt is the time of its beginning and the timeout", async () => {
    for (const transactionTimeoutMs of [undefined, 77]) {
      const { disk, ...place } = simulatedPlace();
      const opened = place.open({ transactionTimeoutMs });
      const wal = await settled(disk, opened);
      const cases = [
        [undefined, transactionTimeoutMs ?? 30_000],
        [5, 5],
        [2 ** 31 - 1, 2 ** 31 - 1],
      ] as const;
      for (const [timeoutMs, expected] of cases) {
        const before = disk.clock.nowMs();
        const tx = wal.beginTransaction({ timeoutMs });
        const after = disk.clock.nowMs();
        const begun = tx.expiresAt.getTime() - expected;
        assertInstanceOf(tx.expiresAt, Date);
        assertGreaterOrEqual(begun, before);
        assertLessOrEqual(begun, after);
        // It is the caller's, and moves with nobody.
        tx.expiresAt.setTime(0);
        assertEquals(tx.expiresAt.getTime() - expected, begun);
        assertNotStrictEquals(tx.expiresAt, tx.expiresAt);
        tx.rollback();
      }
      await settled(disk, wal.close());
    }
  });

  for (const twin of TWINS) {
    it(`after it everything is TransactionExpiredError [${twin.name}]`, async () => {
      const { disk, ...place } = simulatedPlace();
      const done = <T>(promise: Promise<T>) => settled(disk, promise);
      const wal = await done(twin.open(place));
      const tx = wal.beginTransaction({ timeoutMs: 1000 });
      disk.clock.advance(900);
      tx.add("a");
      assertEquals(tx.state, "pending");
      disk.clock.advance(100);
      assertEquals(tx.state, "aborted");
      assertEquals(wal.getTransactionState(tx.id), "aborted");
      const { expiresAt } = tx;
      for (let i = 0; i < 2; i++) {
        const errors = [
          assertThrows(() => tx.add("b"), TransactionExpiredError, tx.id),
          await assertRejects(
            () => twin.commit(tx),
            TransactionExpiredError,
            tx.id,
          ),
        ];
        for (const error of errors) {
          assertStrictEquals(error.code, "TRANSACTION_EXPIRED");
          assertStrictEquals(error.transactionId, tx.id);
          assertEquals(error.expiredAt, expiresAt);
          assertInstanceOf(error, WalError);
          assertStringIncludes(error.message, expiresAt.toISOString());
          assertStringIncludes(error.message, "Cannot");
        }
      }
      assertEquals([tx.state, tx.size, wal.length], ["aborted", 1, 0]);
      assertEquals(wal.getTransactionState(tx.id), "aborted");
      assertEquals(wal.activeTransactionCount, 0);
      tx[Symbol.dispose]();
      await done(twin.close(wal));
    });

    it(`its last millisecond still counts [${twin.name}]`, async () => {
      const { disk, ...place } = simulatedPlace();
      const done = <T>(promise: Promise<T>) => settled(disk, promise);
      const wal = await done(twin.open(place));
      const tx = wal.beginTransaction({ timeoutMs: 1000 });
      tx.add("a");
      const left = tx.expiresAt.getTime() - disk.clock.nowMs();
      // The commit looks at the clock once before it decides.
      disk.clock.advance(left - 2);
      assertEquals(await done(twin.commit(tx)), [1]);
      disk.clock.advance(10_000);
      assertEquals(tx.state, "committed");
      assertThrows(() => tx.add("b"), TransactionNotPendingError);
      await assertRejects(() => twin.commit(tx), TransactionNotPendingError);
      assertEquals(wal.getTransactionState(tx.id), "committed");
      await done(twin.close(wal));
    });
  }

  it("rolled back before its time it is no expired one later", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const tx = wal.beginTransaction({ timeoutMs: 1000 });
    tx.rollback();
    disk.clock.advance(10_000);
    assertThrows(() => tx.add("b"), TransactionNotPendingError);
    await assertRejects(() => tx.commit(), TransactionNotPendingError);
    const late = wal.beginTransaction({ timeoutMs: 1000 });
    disk.clock.advance(10_000);
    late[Symbol.dispose]();
    late[Symbol.dispose]();
    assertEquals(late.state, "aborted");
    assertEquals(wal.activeTransactionCount, 0);
    await settled(disk, wal.close());
  });

  it("a getter that lets the time pass: nothing is added", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const tx = wal.beginTransaction({ timeoutMs: 1000 });
    const slow = acting(() => disk.clock.advance(2000));
    assertThrows(() => tx.add(slow), TransactionExpiredError);
    assertEquals([tx.state, tx.size], ["aborted", 0]);
    const other = wal.beginTransaction({ timeoutMs: 1000 });
    other.add("a");
    const options = {
      get durable(): boolean {
        disk.clock.advance(2000);
        return true;
      },
    };
    await assertRejects(() => other.commit(options), TransactionExpiredError);
    assertEquals(wal.length, 0);
    await settled(disk, wal.close());
  });

  onEachTwin("on the system's clock, too", async (place, twin) => {
    await using wal = await twin.open(place, { transactionTimeoutMs: 5 });
    const tx = wal.beginTransaction();
    const long = wal.beginTransaction({ timeoutMs: 600_000 });
    long.add("long");
    while (place.storage.clock.nowMs() < tx.expiresAt.getTime()) await turn();
    assertThrows(() => tx.add("a"), TransactionExpiredError);
    await assertRejects(() => twin.commit(tx), TransactionExpiredError);
    assertEquals(await twin.commit(long), [1]);
    assertEquals(texts(wal), ["long"]);
  });

  it("cleanupExpiredTransactions() ends the expired ones only", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    assertEquals(wal.cleanupExpiredTransactions(), 0);
    const short = [1, 2, 3].map(() => wal.beginTransaction({ timeoutMs: 500 }));
    const long = wal.beginTransaction({ timeoutMs: 100_000 });
    assertEquals(wal.cleanupExpiredTransactions(), 0);
    disk.clock.advance(1000);
    assertEquals(wal.activeTransactionCount, 4);
    assertEquals(wal.cleanupExpiredTransactions(), 3);
    assertEquals(wal.activeTransactionCount, 1);
    assertEquals(wal.cleanupExpiredTransactions(), 0);
    for (const { id, state } of short) {
      assertEquals(state, "aborted");
      assertEquals(wal.getTransactionState(id), "aborted");
      assertThrows(() => wal.getTransaction(id), TransactionNotFoundError);
    }
    assertThrows(() => short[0]!.add("a"), TransactionExpiredError);
    await assertRejects(() => short[1]!.commit(), TransactionExpiredError);
    long.add("a");
    assertEquals(await settled(disk, long.commit()), [1]);
    await settled(disk, wal.close());
    assertThrows(() => wal.cleanupExpiredTransactions(), WalClosedError);
  });

  it("the clean-up timer ends them, as often as is asked", async () => {
    for (const asked of [undefined, 1000]) {
      const { disk, ...place } = simulatedPlace();
      const options = { transactionCleanupIntervalMs: asked };
      const wal = await settled(disk, place.open(options));
      const intervalMs = asked ?? 300_000;
      const tx = wal.beginTransaction({ timeoutMs: 10 });
      const long = wal.beginTransaction({ timeoutMs: 10 * intervalMs });
      disk.clock.advance(intervalMs - 100);
      assertEquals(wal.activeTransactionCount, 2, `${asked}`);
      disk.clock.advance(200);
      assertEquals(wal.activeTransactionCount, 1);
      assertThrows(() => tx.add("a"), TransactionExpiredError);
      assertThrows(() => wal.getTransaction(tx.id), TransactionNotFoundError);
      assertStrictEquals(wal.getTransaction(long.id), long);
      const other = wal.beginTransaction({ timeoutMs: 10 });
      disk.clock.advance(intervalMs);
      assertEquals([wal.activeTransactionCount, other.state], [1, "aborted"]);
      disk.clock.advance(10 * intervalMs);
      assertEquals([wal.activeTransactionCount, long.state], [0, "aborted"]);
      await settled(disk, wal.close());
    }
  });

  it("the timer runs while there is one to clean up, and never after", async () => {
    const { disk, ...place } = simulatedPlace();
    let running = 0;
    const every = disk.clock.every.bind(disk.clock);
    disk.clock.every = (ms, action) => {
      running++;
      const stop = every(ms, action);
      let stopped = false;
      return () => {
        if (!stopped) running--;
        stopped = true;
        stop();
      };
    };
    const wal = await settled(disk, place.open());
    const before = running;
    const one = wal.beginTransaction();
    const two = wal.beginTransaction();
    assertEquals(running, before + 1);
    one.rollback();
    two.commitSync();
    assertEquals(running, before);
    wal.beginTransaction();
    assertEquals(running, before + 1);
    wal.closeSync();
    assertEquals(running, 0);
    const other = await settled(disk, place.open());
    other.beginTransaction();
    const closing = other.close();
    await settled(disk, closing);
    assertEquals(running, 0);
  });
});

describe("Transaction: the log is closed", () => {
  onEachTwin(
    "close() rolls back what is pending; later calls: WalClosedError",
    async (place, twin) => {
      const wal = await twin.open(place);
      const committed = wal.beginTransaction();
      committed.add("kept");
      await twin.commit(committed);
      const pending = wal.beginTransaction();
      pending.add("dropped");
      const aborted = wal.beginTransaction();
      aborted.rollback();
      const closing = twin.close(wal);
      assertEquals(pending.state, "aborted");
      assertEquals(wal.activeTransactionCount, 0);
      for (const tx of [committed, pending, aborted]) {
        await assertRejects(() => tx.commit(), WalClosedError, place.path);
        assertThrows(() => tx.commitSync(), WalClosedError);
        assertThrows(() => tx.add("x"), WalClosedError);
        assertThrows(() => tx.rollback(), WalClosedError);
        tx[Symbol.dispose]();
        assertThrows(() => wal.getTransaction(tx.id), WalClosedError);
        assertThrows(() => wal.getTransactionState(tx.id), WalClosedError);
      }
      assertThrows(() => wal.beginTransaction(), WalClosedError);
      assertThrows(() => wal.cleanupExpiredTransactions(), WalClosedError);
      await assertRejects(
        () => wal.transaction((tx) => tx.add("x")),
        WalClosedError,
      );
      await closing;
      // What they were can still be told.
      assertEquals(
        [committed, pending, aborted].map(({ state }) => state),
        ["committed", "aborted", "aborted"],
      );
      assertEquals([committed.indexes, committed.size], [[1], 1]);
      assertEquals([pending.indexes, pending.size], [undefined, 1]);
      using again = await twin.open(place);
      assertEquals(texts(again), ["kept"]);
    },
  );

  onEach("commits pending at close() settle before it", async (place) => {
    const wal = await place.open();
    const order: string[] = [];
    const pending = [1, 2, 3].map((nth) => {
      const tx = wal.beginTransaction();
      tx.add(`${nth}`);
      return tx.commit().then(() => void order.push("commit"));
    });
    await wal.close().then(() => void order.push("close"));
    assertEquals(order, [...pending.map(() => "commit"), "close"]);
    using again = place.openSync();
    assertEquals(texts(again), ["1", "2", "3"]);
  });

  it("after closeSync() pending commits settle by its sync", async () => {
    for (const begun of [false, true]) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open());
      const tx = wal.beginTransaction();
      tx.add("a");
      const commit = tx.commit();
      if (begun) await turn();
      wal.closeSync();
      assertEquals(await settled(disk, commit), [1]);
      const again = await settled(disk, place.open());
      assertEquals(texts(again), ["a"]);
      await settled(disk, again.close());
    }
  });

  onEachTwin(
    "a process that dies takes what was not committed with it",
    async (place, twin) => {
      if (!("fork" in place.storage)) return;
      const disk = place.storage as ReturnType<typeof simulatedPlace>["disk"];
      const wal = await twin.open(place);
      const tx = wal.beginTransaction();
      tx.add("dropped");
      await twin.append(wal, "kept");
      const found = disk.fork();
      const again = await twin.open(place, { storage: found });
      assertEquals(texts(again), ["kept"]);
      assertThrows(
        () => again.getTransactionState(tx.id),
        TransactionNotFoundError,
      );
      await twin.close(again);
      await twin.close(wal);
    },
  );
});
