import { describe, it } from "node:test";
import {
  IndexConflictError,
  IndexOutOfRangeError,
  StorageError,
  type Transaction,
  TransactionExpiredError,
  TransactionNotPendingError,
  TransactionTooLargeError,
  type Wal,
  WalClosedError,
  WalFailedError,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
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
  onEach,
  settled,
  simulatedPlace,
  texts,
  turn,
} from "./_wal.ts";

/** What a promise rejects with, whatever it is. */
async function reasonOf(promise: Promise<unknown>): Promise<unknown> {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  return "it resolved";
}

/** A work that remembers its transaction, so that it can be looked at. */
function watching(
  work: (tx: Transaction) => unknown,
): { work: (tx: Transaction) => unknown; tx: Transaction } {
  const made = {
    tx: undefined as unknown as Transaction,
    work: (tx: Transaction) => {
      made.tx = tx;
      return work(tx);
    },
  };
  return made;
}

describe("Wal.transaction()", () => {
  onEach("commits when work returns, and gives its result", async (place) => {
    const wal = await place.open();
    const run = watching((tx) => {
      for (const text of entries(3)) tx.add(text);
      assertEquals(wal.length, 0);
      return { result: 7 };
    });
    assertEquals(await wal.transaction(run.work), { result: 7 });
    assertEquals([run.tx.state, run.tx.indexes], ["committed", [1, 2, 3]]);
    assertEquals(wal.durableIndex, 3);
    const later = watching(async (tx) => {
      tx.add("four");
      await turn();
      tx.add("five");
      return "result";
    });
    assertEquals(await wal.transaction(later.work), "result");
    assertEquals(later.tx.indexes, [4, 5]);
    const nothing = await wal.transaction((tx) => tx.add("six"));
    assertStrictEquals(nothing, undefined);
    assertStrictEquals(await wal.transaction(() => null), null);
    const text: string = await wal.transaction((tx) => tx.id);
    assertStringIncludes(text, "tx_");
    assertEquals(wal.activeTransactionCount, 0);
    await wal.close();
    assertVerified(place);
    using again = place.openSync();
    assertEquals(texts(again), [...entries(3), "four", "five", "six"]);
    assertEquals(again.get(5).transactionId, later.tx.id);
  });

  onEach("any thenable that work returns is waited for", async (place) => {
    await using wal = await place.open();
    const thenable = {
      then(resolve: (value: string) => void): void {
        setTimeout(() => resolve("late"), 0);
      },
    } as unknown as Promise<string>;
    const result = await wal.transaction((tx) => {
      tx.add("a");
      return thenable;
    });
    assertEquals([result, wal.length], ["late", 1]);
  });

  onEach("rolls back when work throws or rejects", async (place) => {
    await using wal = await place.open();
    const reasons = [new Error("mine"), "text", undefined, 0, null];
    for (const reason of reasons) {
      const throwing = watching((tx) => {
        tx.add("dropped");
        throw reason;
      });
      const rejecting = watching(async (tx) => {
        tx.add("dropped");
        await turn();
        throw reason;
      });
      for (const run of [throwing, rejecting]) {
        const thrown = await reasonOf(wal.transaction(run.work));
        assertStrictEquals(thrown, reason);
        assertEquals([run.tx.state, run.tx.indexes], ["aborted", undefined]);
        assertEquals(wal.getTransactionState(run.tx.id), "aborted");
        assertThrows(() => run.tx.add("x"), TransactionNotPendingError);
      }
    }
    assertEquals([wal.length, wal.activeTransactionCount], [0, 0]);
    assertEquals(wal.stats().bytesWritten, 0);
  });

  onEach("never throws: all errors reject", async (place) => {
    const wal = await place.open();
    const run = wal.transaction.bind(wal) as (...given: unknown[]) => unknown;
    const work = () => {
      throw new Error("work must not run");
    };
    const wrong: [unknown[], new () => Error, string][] = [
      [[], TypeError, "work is undefined"],
      [[null], TypeError, "work is null"],
      [["work"], TypeError, 'work is "work"'],
      [[{}], TypeError, "work is"],
      [[work, null], TypeError, "null"],
      [[work, 5], TypeError, "5"],
      [[work, { timeoutms: 5 }], TypeError, '"timeoutms"'],
      [[work, { timeoutMs: "5" }], TypeError, 'timeoutMs is "5"'],
      [[work, { timeoutMs: 0 }], RangeError, "timeoutMs is 0"],
      [[work, { durable: 1 }], TypeError, "durable is 1"],
      [[work, { signal: {} }], TypeError, "signal is"],
    ];
    for (const [given, errorClass, found] of wrong) {
      const promise = run(...given);
      assertInstanceOf(promise, Promise);
      const error = await assertRejects(
        () => promise as Promise<unknown>,
        errorClass,
        found,
      );
      assertStringIncludes(error.message, "expected");
    }
    assertEquals(wal.activeTransactionCount, 0);
    await wal.close();
    for (const [given] of wrong) {
      const promise = run(...given) as Promise<unknown>;
      assertInstanceOf(promise, Promise);
      await assertRejects(() => promise, WalClosedError);
    }
  });

  onEach("a wrong expectedIndex is refused sooner or later", async (place) => {
    await using wal = await place.open();
    for (const expectedIndex of ["1", null, {}]) {
      await assertRejects(
        () =>
          wal.transaction((tx) => tx.add("x"), {
            expectedIndex: expectedIndex as number,
          }),
        TypeError,
        "expectedIndex is",
      );
    }
    assertEquals([wal.length, wal.activeTransactionCount], [0, 0]);
  });

  onEach(
    "options of both kinds: undefined counts as absent",
    async (place) => {
      await using wal = await place.open();
      const none = { timeoutMs: undefined, signal: undefined };
      const options = { ...none, expectedIndex: undefined, durable: undefined };
      await wal.transaction((tx) => tx.add("a"), options);
      await wal.transaction((tx) => tx.add("b"), {
        timeoutMs: 5000,
        expectedIndex: 2,
        durable: true,
        signal: new AbortController().signal,
      });
      assertEquals(texts(wal), ["a", "b"]);
    },
  );

  it("timeoutMs is that of the transaction", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    for (const [timeoutMs, expected] of [[77, 77], [undefined, 30_000]]) {
      const before = disk.clock.nowMs();
      const run = watching(() => {});
      const options = { timeoutMs: timeoutMs as number | undefined };
      await settled(disk, wal.transaction(run.work, options));
      const lasts = run.tx.expiresAt.getTime() - before;
      assert(lasts >= expected! && lasts < expected! + 20, `${lasts} ms`);
    }
    await settled(disk, wal.close());
  });

  it("settles when the commit is as safe as sync or durable says", async () => {
    for (const sync of ["always", "interval", "never"] as const) {
      const { disk, ...place } = simulatedPlace();
      const wal = await settled(disk, place.open({ sync }));
      const add = (tx: Transaction) => tx.add("x");
      const usual = wal.transaction(add);
      assertEquals(await isSettled(usual), sync !== "always", sync);
      await settled(disk, usual);
      const at = wal.durableIndex;
      await wal.transaction(add, { durable: false });
      assertEquals([wal.length, wal.durableIndex], [2, at]);
      const waits = wal.transaction(add, { durable: true });
      assertFalse(await isSettled(waits));
      await settled(disk, waits);
      assertEquals(wal.durableIndex, 3);
      await settled(disk, wal.close());
    }
  });
});

describe("Wal.transaction(): work ends it by itself", () => {
  onEach("by a commit: that is the one", async (place) => {
    await using wal = await place.open();
    const blocking = watching((tx) => {
      tx.add("a");
      return tx.commitSync();
    });
    assertEquals(await wal.transaction(blocking.work), [1]);
    const awaited = watching(async (tx) => {
      tx.add("b");
      return await tx.commit();
    });
    // The expected index was that of the commit that never comes.
    const options = { expectedIndex: 2 };
    assertEquals(await wal.transaction(awaited.work, options), [2]);
    // Not waited for: its outcome is the work's own.
    let own: Promise<number[]> | undefined;
    const left = await wal.transaction((tx) => {
      tx.add("c");
      own = tx.commit();
      return "left";
    });
    assertEquals([left, await own], ["left", [3]]);
    assertEquals(texts(wal), ["a", "b", "c"]);
    assertEquals(awaited.tx.state, "committed");
  });

  onEach("by a commit, and then throws: it stays committed", async (place) => {
    await using wal = await place.open();
    const mine = new Error("mine");
    const run = watching(async (tx) => {
      tx.add("a");
      await tx.commit();
      throw mine;
    });
    assertStrictEquals(await reasonOf(wal.transaction(run.work)), mine);
    assertEquals([run.tx.state, wal.length], ["committed", 1]);
  });

  onEach("by a rollback: nothing is written, no error", async (place) => {
    await using wal = await place.open();
    const acts: ((tx: Transaction) => void)[] = [
      (tx) => tx.rollback(),
      (tx) => tx[Symbol.dispose](),
    ];
    for (const act of acts) {
      const run = watching((tx) => {
        tx.add("a");
        act(tx);
        return "given up";
      });
      assertEquals(await wal.transaction(run.work), "given up");
      assertEquals([run.tx.state, wal.length], ["aborted", 0]);
    }
  });

  onEach("one that outlives its work is ended", async (place) => {
    await using wal = await place.open();
    const run = watching((tx) => tx.add("a"));
    await wal.transaction(run.work);
    assertThrows(() => run.tx.add("late"), TransactionNotPendingError);
    await assertRejects(() => run.tx.commit(), TransactionNotPendingError);
    assertThrows(() => run.tx.rollback(), TransactionNotPendingError);
    assertEquals(texts(wal), ["a"]);
  });
});

describe("Wal.transaction(): what happens meanwhile", () => {
  it("its time passes: TransactionExpiredError, nothing is written", async () => {
    for (const cleaned of ["not", "by call", "by timer"]) {
      const { disk, ...place } = simulatedPlace();
      const options = { transactionCleanupIntervalMs: 1000 };
      const wal = await settled(disk, place.open(options));
      const run = watching(async (tx) => {
        tx.add("a");
        await turn();
        disk.clock.advance(cleaned === "by timer" ? 5000 : 600);
        if (cleaned === "by call") wal.cleanupExpiredTransactions();
        return "too late";
      });
      const error = await assertRejects(
        () => wal.transaction(run.work, { timeoutMs: 500 }),
        TransactionExpiredError,
        run.tx?.id ?? "tx_",
      );
      assertStrictEquals(error.transactionId, run.tx.id);
      assertEquals([run.tx.state, wal.length], ["aborted", 0]);
      assertEquals(wal.activeTransactionCount, 0);
      await settled(disk, wal.close());
    }
  });

  onEach("the log is closed: WalClosedError", async (place) => {
    const closers: ((wal: Wal) => unknown)[] = [
      (wal) => wal.closeSync(),
      (wal) => wal.close(),
      (wal) => void wal.close(),
    ];
    for (const close of closers) {
      const wal = await place.open();
      const run = watching(async (tx) => {
        tx.add("dropped");
        await turn();
        await close(wal);
        return "closed";
      });
      await assertRejects(() => wal.transaction(run.work), WalClosedError);
      assertEquals([run.tx.state, run.tx.indexes], ["aborted", undefined]);
      await wal.close();
    }
    using again = place.openSync();
    assertEquals(again.length, 0);
  });

  onEach("the log is closed after its own commit: no error", async (place) => {
    const wal = await place.open();
    const run = watching(async (tx) => {
      tx.add("kept");
      await tx.commit();
      await wal.close();
      return "closed";
    });
    const outcome = await reasonOf(wal.transaction(run.work));
    // Either is true: it was committed, and the log is closed.
    assert(
      outcome === "it resolved" || outcome instanceof WalClosedError,
      String(outcome),
    );
    assertEquals([run.tx.state, run.tx.indexes], ["committed", [1]]);
    using again = place.openSync();
    assertEquals(texts(again), ["kept"]);
  });

  it("a sync fails: WalFailedError, nothing of it is written", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const run = watching(async (tx) => {
      tx.add("dropped");
      disk.failNext("syncSoon", "EIO");
      await assertRejects(() => wal.append("lost?"), WalFailedError);
      return "failed";
    });
    const outcome = assertRejects(
      () => wal.transaction(run.work),
      WalFailedError,
    );
    await settled(disk, outcome);
    assertEquals([run.tx.state, run.tx.indexes], ["aborted", undefined]);
    assertEquals(texts(wal), ["lost?"]);
    await assertRejects(() => settled(disk, wal.close()), WalFailedError);
  });

  it("the sync of the commit fails: WalFailedError, committed", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const run = watching((tx) => tx.add("kept?"));
    disk.failNext("syncSoon", "EIO");
    const outcome = assertRejects(
      () => wal.transaction(run.work),
      WalFailedError,
    );
    await settled(disk, outcome);
    assertEquals([run.tx.state, run.tx.indexes], ["committed", [1]]);
    assertEquals(wal.getTransactionState(run.tx.id), "committed");
    await assertRejects(() => settled(disk, wal.close()), WalFailedError);
  });

  it("there is no space: StorageError, rolled back", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    disk.failNext("create", "ENOSPC"); // So that there is no spare.
    await settled(disk, wal.append(block(50_000, 1)));
    const run = watching((tx) => tx.add(block(50_000, 2)));
    disk.failNext("create", "ENOSPC");
    const error = await assertRejects(
      () => settled(disk, wal.transaction(run.work)),
      StorageError,
    );
    assertStrictEquals(error.systemCode, "ENOSPC");
    assertEquals([run.tx.state, wal.state], ["aborted", "open"]);
    assertEquals([wal.length, wal.activeTransactionCount], [1, 0]);
    await settled(disk, wal.transaction(run.work));
    assertEquals(wal.length, 2);
    await settled(disk, wal.close());
    assertVerified(place);
  });

  it("what it wrote is cut while it waits: rejected, committed", async () => {
    const { disk, ...place } = simulatedPlace();
    const wal = await settled(disk, place.open());
    const run = watching((tx) => tx.add("a"));
    const outcome = wal.transaction(run.work);
    await turn();
    assertEquals(wal.length, 1);
    const cut = wal.truncateAfter(0);
    const error = await assertRejects(() => outcome, IndexOutOfRangeError);
    assertEquals([error.reason, run.tx.state], ["truncated", "committed"]);
    await settled(disk, cut);
    await settled(disk, wal.close());
  });

  onEach("expectedIndex is that of the commit", async (place) => {
    await using wal = await place.open();
    const append = watching(async (tx) => {
      tx.add("a");
      await wal.append("first");
    });
    const error = await assertRejects(
      () => wal.transaction(append.work, { expectedIndex: 1 }),
      IndexConflictError,
    );
    assertEquals([error.expectedIndex, error.nextIndex], [1, 2]);
    assertEquals(append.tx.state, "aborted");
    await wal.transaction(append.work, { expectedIndex: 3 });
    assertEquals(texts(wal), ["first", "first", "a"]);
  });

  onEach("a signal counts at the call", async (place) => {
    await using wal = await place.open();
    let runs = 0;
    const reason = new Error("mine");
    const aborted = wal.transaction(() => void runs++, {
      signal: AbortSignal.abort(reason),
    });
    assertStrictEquals(await reasonOf(aborted), reason);
    assertEquals([runs, wal.activeTransactionCount], [0, 0]);
    const controller = new AbortController();
    const { signal } = controller;
    await wal.transaction(async (tx) => {
      tx.add("a");
      controller.abort();
      await turn();
      tx.add("b");
    }, { signal });
    assertEquals(texts(wal), ["a", "b"]);
  });

  onEach("work fills it: what add throws is the outcome", async (place) => {
    await using wal = await place.open({ maxTransactionEntries: 2 });
    const run = watching((tx) => {
      for (const text of entries(3)) tx.add(text);
    });
    await assertRejects(
      () => wal.transaction(run.work),
      TransactionTooLargeError,
    );
    assertEquals([run.tx.state, wal.length], ["aborted", 0]);
    await wal.transaction((tx) => {
      tx.add("a");
      tx.add("b");
      assertThrows(() => tx.add("c"), TransactionTooLargeError);
    });
    assertEquals(texts(wal), ["a", "b"]);
  });

  onEach("many at once, and one in another: each is whole", async (place) => {
    const wal = await place.open();
    const many = Array.from(
      { length: 20 },
      (_, nth) =>
        wal.transaction(async (tx) => {
          for (let i = 0; i < 5; i++) {
            tx.add(`${nth}`);
            if ((nth + i) % 3 === 0) await turn();
            else await null;
          }
          if (nth % 4 === 3) throw new Error("mine");
          return nth;
        }),
    );
    const outcomes = await Promise.allSettled(many);
    const committed = outcomes.filter(({ status }) => status === "fulfilled");
    assertEquals([committed.length, wal.length], [15, 75]);
    for (let i = 1; i <= 75; i += 5) {
      const five = wal.getRange(i, i + 4);
      assertEquals(new Set(five.map((entry) => entry.text())).size, 1);
      assertEquals(new Set(five.map((one) => one.transactionId)).size, 1);
    }
    await wal.transaction(async (outer) => {
      outer.add("outer");
      await wal.transaction((inner) => inner.add("inner"));
      await wal.append("append");
    });
    const last = Array.from(wal.entries({ from: 76 }), (one) => one.text());
    assertEquals(last, ["inner", "append", "outer"]);
    assertEquals(wal.activeTransactionCount, 0);
    await wal.close();
    assertVerified(place);
  });

  onEach("on a log that is closing: WalClosedError", async (place) => {
    const wal = await place.open();
    let runs = 0;
    const closing = wal.close();
    await assertRejects(
      () => wal.transaction(() => void runs++),
      WalClosedError,
    );
    await closing;
    await assertRejects(
      () => wal.transaction(() => void runs++),
      WalClosedError,
    );
    assertEquals(runs, 0);
  });
});
