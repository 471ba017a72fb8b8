/**
 * Two calls in the same tick, in every order and with both twins: each takes
 * effect at the call, and whatever crashes then, the log is one that it was
 * or was asked to be, and nothing is undone that a call has settled for.
 */
import { describe, it } from "node:test";
import {
  IndexOutOfRangeError,
  openWalSync,
  type Wal,
  WalClosedError,
} from "../mod.ts";
import {
  checkEveryCrash,
  type CrashTally,
  Random,
  SimulatedStorage,
} from "../testing/mod.ts";
import { assert, assertEquals, assertGreater } from "./_assert.ts";
import { budgetOf, seedOf } from "./_budget.ts";
import { assertVerified, texts, type Twin, TWINS } from "./_wal.ts";

/** What a log holds: `list[i]` has the index `first + i`. */
interface Log {
  readonly first: number;
  readonly list: readonly string[];
}

/** One call of a pair. */
interface Call {
  readonly name: string;
  /** What it does; "none" leaves the entries alone. */
  readonly kind:
    | "append"
    | "end"
    | "anew"
    | "front"
    | "flush"
    | "close"
    | "none";
  /** Makes it; the model was told before. */
  run(wal: Wal, twin: Twin): Promise<unknown>;
  /** What it makes of the log. */
  apply?(log: Log): Log;
}

const next = ({ first, list }: Log) => first + list.length;

const append = (text: string, bytes = 0): Call => ({
  name: `append ${text}`,
  kind: "append",
  run: (wal, twin) => twin.append(wal, text.padEnd(bytes, ".")),
  apply: ({ first, list }) => ({
    first,
    list: [...list, text.padEnd(bytes, ".")],
  }),
});

const truncateAfter = (index: number): Call => ({
  name: `truncateAfter ${index}`,
  kind: "end",
  run: (wal, twin) => {
    const least = wal.firstIndex === 0 ? wal.nextIndex : wal.firstIndex;
    const to = Math.min(Math.max(index, least - 1), wal.nextIndex - 1);
    return twin.truncateAfter(wal, to);
  },
  apply: ({ first, list }) => ({
    first,
    list: list.slice(0, Math.max(0, index - first + 1)),
  }),
});

const truncateBefore = (index: number): Call => ({
  name: `truncateBefore ${index}`,
  kind: "front",
  run: (wal, twin) => twin.truncateBefore(wal, Math.min(index, wal.nextIndex)),
  apply: (log) => behind(log, index),
});

const reset = (index: number): Call => ({
  name: `reset ${index}`,
  kind: "anew",
  run: (wal, twin) => twin.reset(wal, index),
  apply: () => ({ first: index, list: [] }),
});

const CALLS: readonly Call[] = [
  append("a"),
  append("large", 50_000),
  {
    name: "batch",
    kind: "append",
    run: (wal, twin) => twin.appendBatch(wal, ["b1", "b2"]),
    apply: ({ first, list }) => ({ first, list: [...list, "b1", "b2"] }),
  },
  {
    name: "commit",
    kind: "append",
    run: async (wal, twin) => {
      const tx = wal.beginTransaction();
      tx.add("t1");
      tx.add("t2");
      await twin.commit(tx);
    },
    apply: ({ first, list }) => ({ first, list: [...list, "t1", "t2"] }),
  },
  // Inside of a segment, at the end of one, in the first one, to nothing.
  truncateAfter(7),
  truncateAfter(6),
  truncateAfter(2),
  truncateAfter(0),
  truncateBefore(3),
  truncateBefore(4),
  truncateBefore(8),
  truncateBefore(1000),
  reset(3),
  reset(9),
  reset(50),
  { name: "rotate", kind: "none", run: (wal, twin) => twin.rotate(wal) },
  { name: "flush", kind: "flush", run: (wal, twin) => twin.flush(wal) },
  { name: "close", kind: "close", run: (wal, twin) => twin.close(wal) },
];

/** Entries 1 to 8, three to a segment. */
const START: readonly string[] = Array.from(
  { length: 8 },
  (_, i) => `${i + 1}`.padEnd(18_000, "."),
);

/** What there may be before all of them are durable. */
const UNDER_WAY: readonly string[] = [...START, ""].map((_, i) =>
  inWords({ first: 1, list: START.slice(0, i) })
);

/** A call by one of the twins. */
interface Step {
  readonly call: Call;
  readonly twin: Twin;
}

/** What the log was once, with what was hidden at its front. */
interface Version {
  readonly log: Log;
  /** How often it had begun anew. */
  readonly epoch: number;
  readonly appended: boolean;
  certain: boolean;
}

/** What was hidden at the front. */
interface Front {
  readonly first: number;
  readonly epoch: number;
  certain: boolean;
}

/**
 * Which logs a crash may leave: the log as it was after any call since the
 * last one that has settled, and the front as any truncateBefore wanted it
 * since the last one that has settled. The two are made durable by different
 * files, so neither waits for the other, unless the log began anew.
 */
class History {
  readonly #versions: Version[] = [];
  readonly #fronts: Front[] = [];
  /** What the log shows now. */
  now: Log;

  constructor(list: readonly string[]) {
    this.now = { first: 1, list };
    const log = this.now;
    this.#versions.push({ log, epoch: 0, appended: true, certain: true });
  }

  /** Notes a call that is about to be made; the result settles it. */
  expect({ call }: Step): () => void {
    const before = this.now;
    this.now = call.apply?.(before) ?? before;
    const last = this.#versions.at(-1)!;
    const { epoch } = last;
    switch (call.kind) {
      case "front": {
        const front = { first: this.now.first, epoch, certain: false };
        this.#fronts.push(front);
        return () => void (front.certain = true);
      }
      case "append":
        return this.#push(call.apply!(last.log), epoch, true);
      case "anew":
        return this.#push(this.now, epoch + 1, false);
      case "end": {
        if (before.list.length === 0) return () => {};
        // Cut to nothing it begins anew behind what was hidden.
        if (this.now.list.length === 0) {
          return this.#push(this.now, epoch + 1, false);
        }
        return this.#push(call.apply!(last.log), epoch, false);
      }
      case "flush":
        return this.#settling(this.#versions.filter((one) => one.appended));
      case "close":
        return this.#settling([...this.#versions, ...this.#fronts]);
      case "none":
        return () => {};
    }
  }

  #push(log: Log, epoch: number, appended: boolean): () => void {
    const version = { log, epoch, appended, certain: false };
    this.#versions.push(version);
    return () => void (version.certain = true);
  }

  #settling(all: readonly { certain: boolean }[]): () => void {
    return () => all.forEach((one) => one.certain = true);
  }

  /** Every log that a crash may leave now, in words. */
  allowed(): string[] {
    const least = this.#versions.findLastIndex((version) => version.certain);
    const found = new Set<string>();
    for (const version of this.#versions.slice(least)) {
      // One that settled since holds, even if it had nothing to do.
      const later = this.#fronts.filter((front) =>
        front.certain && front.epoch > version.epoch
      );
      for (const first of this.#firstsOf(version)) {
        if (later.some((front) => front.first > first)) continue;
        found.add(inWords(behind(version.log, first)));
      }
    }
    return [...found];
  }

  #firstsOf({ log, epoch }: Version): number[] {
    const own = this.#fronts.filter((front) => front.epoch === epoch);
    const certain = own.filter((front) => front.certain);
    const least = Math.max(log.first, ...certain.map(({ first }) => first));
    const more = own.map(({ first }) => first);
    return [least, ...more.filter((first) => first > least)];
  }
}

/** The log without the entries below `first`. */
function behind(log: Log, first: number): Log {
  const from = Math.max(log.first, Math.min(first, next(log)));
  return { first: from, list: log.list.slice(from - log.first) };
}

/** A log in words; entries are known by what they begin with. */
function inWords({ first, list }: Log): string {
  const short = list.map((text) => text.replace(/\.+$/, ""));
  return `${first}: ${short.join(" ")}`;
}

function wordsOf(wal: Wal): string {
  const first = wal.firstIndex === 0 ? wal.nextIndex : wal.firstIndex;
  return inWords({ first, list: texts(wal) });
}

const nameOf = ({ call, twin }: Step) => `${call.name} (${twin.name})`;

/** All pairs of calls, each by either twin. */
function* pairs(): Generator<[Step, Step]> {
  const steps = CALLS.flatMap((call) => TWINS.map((twin) => ({ call, twin })));
  for (const first of steps) {
    for (const second of steps) yield [first, second];
  }
}

/** Runs the pair; checks what it shows at once and in the end. */
async function runPair(
  storage: SimulatedStorage,
  pair: readonly Step[],
  begin: () => History,
): Promise<History> {
  const wal = openWalSync("log", { storage, segmentBytes: 65536 });
  for (const text of START) wal.appendSync(text, { durable: false });
  wal.flushSync();
  const history = begin();
  const pending: Promise<void>[] = [];
  for (const step of pair) {
    const closed = wal.state === "closed";
    const settle = closed ? () => {} : history.expect(step);
    pending.push(
      step.call.run(wal, step.twin).then(() => {
        assert(!closed || step.call.kind === "close", nameOf(step));
        settle();
      }, (error: unknown) => {
        const why = `${nameOf(step)}: ${error}`;
        if (closed) assert(error instanceof WalClosedError, why);
        // An append that the other call takes away again.
        else {
          assert(step.call.kind === "append", why);
          assert(error instanceof IndexOutOfRangeError, why);
        }
      }),
    );
    if (wal.state !== "closed") {
      assertEquals(wordsOf(wal), inWords(history.now), nameOf(step));
    }
  }
  await Promise.all(pending);
  if (wal.state !== "closed") {
    assertEquals(wordsOf(wal), inWords(history.now));
    const last = { call: append("last"), twin: TWINS[0]! };
    const settle = history.expect(last);
    await wal.append("last");
    settle();
    await wal.close();
  }
  return history;
}

describe("two calls in the same tick", () => {
  for (const mapped of [true, false]) {
    const kind = mapped ? "mapped" : "written";
    it(`every pair: each takes effect at its call [${kind}]`, {
      timeout: 300_000,
    }, async () => {
      let count = 0;
      for (const pair of pairs()) {
        const name = pair.map(nameOf).join(", then ");
        const storage = new SimulatedStorage({
          seed: seedOf() + count++,
          mapped,
          autoSettle: true,
          writeback: 0,
        });
        try {
          const history = await runPair(
            storage,
            pair,
            () => new History(START),
          );
          assertVerified({ storage, path: "log" });
          const wal = openWalSync("log", { storage });
          assertEquals(wal.recovery.outcome, "clean");
          assertEquals(wordsOf(wal), inWords(history.now));
          wal.closeSync();
          assertVerified({ storage, path: "log" });
        } catch (error) {
          throw new Error(`${name}: ${error}`, { cause: error });
        }
      }
      assertEquals(count, (CALLS.length * 2) ** 2);
    });
  }

  const count = budgetOf({
    // A simulated disk is the same on every runtime: Deno does most of it.
    smoke: "Deno" in globalThis ? 16 : 3,
    long: (CALLS.length * 2) ** 2,
  });
  it(`${count} pairs, crashed at every call`, {
    timeout: 60_000 + count * 20_000,
  }, async () => {
    const seed = seedOf();
    const random = new Random(seed, 99);
    const chosen = random.shuffle([...pairs()]).slice(0, count);
    let crashes = 0;
    for (const [nth, pair] of chosen.entries()) {
      const name = pair.map(nameOf).join(", then ");
      try {
        const { crashes: some } = await crashPair(pair, seed + nth);
        crashes += some;
      } catch (error) {
        throw new Error(`${name}: ${error}`, { cause: error });
      }
    }
    console.log(
      `seed ${seed}: ${crashes} crashes of ${chosen.length} pairs; replay: ` +
        `WALRUS_SEED=${seed} WALRUS_BUDGET=${count} deno test -A --no-check ` +
        `tests/call_pairs_test.ts`,
    );
    assertGreater(crashes, count * 40);
  });
});

async function crashPair(
  pair: readonly Step[],
  seed: number,
): Promise<CrashTally> {
  let history: History | undefined;
  return await checkEveryCrash({
    seed,
    disk: { mapped: seed % 2 === 0 },
    powerCuts: 1,
    insideVerify: seed % 4 < 2,
    async workload(storage): Promise<void> {
      await runPair(storage, pair, () => history = new History(START));
    },
    promised: () => history?.allowed() ?? UNDER_WAY,
    verify(storage, promised, crash): void {
      const wal = openWalSync("log", { storage, segmentBytes: 65536 });
      const found = wordsOf(wal);
      assert(
        promised.includes(found),
        `found "${found}" after ${crash.at}, expected one of ` +
          promised.map((one) => `"${one}"`).join(", "),
      );
      wal.closeSync();
      assertVerified({ storage, path: "log" });
    },
  });
}
