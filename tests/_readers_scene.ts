/**
 * A log, its writer and what it must hold, in one thread: both sides see the
 * same simulated disk, each by a tap of its own.
 *
 * @module
 */

import {
  openReaderSync,
  openWalSync,
  StorageError,
  type Wal,
  type WalOptions,
  type WalReader,
} from "../mod.ts";
import { SimulatedStorage } from "../testing/mod.ts";
import { assertEquals, assertThrows } from "./_assert.ts";
import { readTold, tellingData, type Told } from "./_readers_entry.ts";
import { Tap } from "./_readers_tap.ts";

const SEGMENT_BYTES = 65_536;
/** A second one of these needs another segment. */
const LARGE_BYTES = 40_000;

/** What a log holds. */
export interface Holding {
  readonly first: number;
  readonly entries: readonly Told[];
  /** How often its end had been cut. */
  readonly history: number;
}

/** The same holdings have the same words. */
export function keyOf({ first, entries }: Holding): string {
  const next = first + entries.length;
  return `${first}..${next - 1}: ${entries.map((one) => one.serial)}`;
}

/** What an operation makes of a log. */
export interface Plan {
  /** What the log holds one after the other; the last one stays. */
  readonly states: readonly Holding[];
  /** Above which entry followers have lost their history. */
  readonly cutAbove?: number;
  run(): void | Promise<void>;
}

/** Something that a writer can do. */
export interface Operation {
  readonly name: string;
  plan(scene: Scene, soon: boolean): Plan;
}

/** One log and its writer. */
export class Scene {
  readonly base: SimulatedStorage;
  readonly mapped: boolean;
  writer: Tap;
  wal: Wal;
  /** What it holds now. */
  holding: Holding = { first: 1, entries: [], history: 0 };
  #serial = 0;
  #lastSerial = 0;

  constructor(mapped: boolean, seed = 1) {
    this.base = new SimulatedStorage({
      seed,
      mapped,
      autoSettle: true,
      writeback: 0,
    });
    this.mapped = mapped;
    this.writer = new Tap(this.base);
    this.wal = this.openWriter();
  }

  openWriter(options: WalOptions = {}, tap: Tap = this.writer): Wal {
    return openWalSync("/log", {
      storage: tap.port,
      segmentBytes: SEGMENT_BYTES,
      ...options,
    });
  }

  openReader(tap: Tap = new Tap(this.base)): WalReader {
    return openReaderSync("/log", { storage: tap.port });
  }

  get last(): number {
    const { first, entries } = this.holding;
    return first + entries.length - 1;
  }

  /** The next entries, as one batch. */
  tell(count: number): Told[] {
    const batch: Told[] = [];
    for (let position = 0; position < count; position++) {
      const serial = ++this.#serial;
      const { history } = this.holding;
      const index = this.last + 1 + position;
      const previous = this.#lastSerial;
      batch.push({ serial, previous, index, history, position, count });
      this.#lastSerial = serial;
    }
    return batch;
  }

  /** The log holds this now. */
  become(holding: Holding): void {
    this.holding = holding;
    const last = holding.entries.at(-1);
    if (last !== undefined) this.#lastSerial = last.serial;
  }

  /** Does it now, without anybody looking. */
  perform(operation: Operation): Plan {
    const plan = operation.plan(this, false);
    plan.run();
    this.become(plan.states.at(-1)!);
    return plan;
  }
}

/** What a reader shows now; throws when an entry is wrong. */
export function viewOf(reader: WalReader): string {
  const { firstIndex, lastIndex, nextIndex, length } = reader;
  const entries = reader.getRange(1, Number.MAX_SAFE_INTEGER).map(readTold);
  const first = firstIndex === 0 ? nextIndex : firstIndex;
  assertEquals(lastIndex, length === 0 ? 0 : nextIndex - 1);
  assertEquals(length, nextIndex - first);
  assertEquals(
    entries.map((one) => one.index),
    [
      ...Array(length).keys(),
    ].map((i) => first + i),
  );
  return keyOf({ first, entries, history: 0 });
}

async function done(call: Promise<unknown>): Promise<void> {
  await call;
}

function append(name: string, count: number, bytes: number): Operation {
  return {
    name,
    plan(scene, soon) {
      const before = scene.holding;
      const told = scene.tell(count);
      const data = told.map((one) => tellingData(one, bytes));
      const after = { ...before, entries: [...before.entries, ...told] };
      const { wal } = scene;
      return {
        states: [before, after],
        run: () => {
          const row = count > 1;
          if (!soon) {
            return row
              ? void wal.appendBatchSync(data)
              : void wal.appendSync(data[0]!);
          }
          return done(row ? wal.appendBatch(data) : wal.append(data[0]!));
        },
      };
    },
  };
}

function cut(name: string, indexOf: (scene: Scene) => number): Operation {
  return {
    name,
    plan(scene, soon) {
      const before = scene.holding;
      const { first } = before;
      const index = Math.max(first - 1, Math.min(scene.last, indexOf(scene)));
      const none = index === scene.last;
      const after = {
        first,
        entries: before.entries.slice(0, index + 1 - first),
        history: before.history + 1,
      };
      const { wal } = scene;
      return {
        states: none ? [before] : [before, after],
        ...(none ? {} : { cutAbove: index }),
        run: () =>
          soon ? wal.truncateAfter(index) : wal.truncateAfterSync(index),
      };
    },
  };
}

function remove(name: string, indexOf: (scene: Scene) => number): Operation {
  return {
    name,
    plan(scene, soon) {
      const before = scene.holding;
      const { first, entries } = before;
      const index = Math.max(first, Math.min(scene.last + 1, indexOf(scene)));
      const after = {
        ...before,
        first: index,
        entries: entries.slice(index - first),
      };
      const { wal } = scene;
      return {
        states: [before, after],
        run: () =>
          soon ? wal.truncateBefore(index) : wal.truncateBeforeSync(index),
      };
    },
  };
}

function reset(name: string, indexOf: (scene: Scene) => number): Operation {
  return {
    name,
    plan(scene, soon) {
      const before = scene.holding;
      const first = indexOf(scene);
      const after = { first, entries: [], history: before.history + 1 };
      const { wal } = scene;
      return {
        states: [before, after],
        cutAbove: 0,
        run: () => soon ? wal.reset(first) : wal.resetSync(first),
      };
    },
  };
}

/** What changes no entry. */
function still(
  name: string,
  run: (scene: Scene, soon: boolean) => void | Promise<void>,
): Operation {
  return {
    name,
    plan: (scene, soon) => ({
      states: [scene.holding],
      run: () => run(scene, soon),
    }),
  };
}

/** A rotation after which the log has too many segments. */
const retention: Operation = {
  name: "retention",
  plan(scene) {
    scene.wal.closeSync();
    scene.wal = scene.openWriter({ retention: { maxSegments: 2 } });
    const { wal } = scene;
    wal.appendSync(tellingData(scene.tell(1)[0]!, LARGE_BYTES));
    const [told] = [readTold(wal.get(wal.lastIndex))];
    const { holding } = scene;
    scene.become({ ...holding, entries: [...holding.entries, told] });
    const grown = append("", 1, LARGE_BYTES).plan(scene, true);
    const after = grown.states[1]!;
    const segments = wal.segments();
    const gone = segments[segments.length - 2]?.lastIndex ?? 0;
    const first = Math.max(after.first, gone + 1);
    const rest = after.entries.slice(first - after.first);
    return {
      states: [scene.holding, after, { ...after, first, entries: rest }],
      async run() {
        await grown.run();
        // It looks when the call is done, and then removes by itself.
        for (let i = 0; i < 400 && wal.firstIndex !== first; i++) await null;
        await wal.flush();
        for (let i = 0; i < 400; i++) await null;
      },
    };
  },
};

/** An append that the disk refuses: nobody ever sees it. */
const refused = still("refused append", ({ base, wal, mapped }) => {
  const data = new Uint8Array(mapped ? LARGE_BYTES : 100);
  // Stores into a mapping are never refused; making a segment may be.
  if (mapped) base.failNext("create", "ENOSPC");
  else base.failNext("write", "ENOSPC");
  assertThrows(() => wal.appendBatchSync([data, data]), StorageError);
});

const middle = ({ holding }: Scene): number =>
  holding.first + (holding.entries.length >> 1);

/** Everything that a writer does. */
export const OPERATIONS: readonly Operation[] = [
  append("append", 1, 0),
  append("batch", 3, 0),
  append("large append", 1, LARGE_BYTES),
  append("large batch", 3, 15_000),
  still("rotate", ({ wal }, soon) => soon ? wal.rotate() : wal.rotateSync()),
  still("flush", ({ wal }, soon) => soon ? wal.flush() : wal.flushSync()),
  cut("truncateAfter the last but one", ({ last }) => last - 1),
  cut("truncateAfter the middle", middle),
  cut("truncateAfter the first", ({ holding }) => holding.first),
  cut("truncateAfter nothing", ({ holding }) => holding.first - 1),
  remove("truncateBefore the second", ({ holding }) => holding.first + 1),
  remove("truncateBefore the middle", middle),
  remove("truncateBefore the last", ({ last }) => last),
  remove("truncateBefore all", ({ last }) => last + 1),
  reset("reset ahead", ({ last }) => last + 6),
  reset("reset to the next", ({ last }) => last + 1),
  reset("reset to 1", () => 1),
  still("close and open", (scene, soon) => {
    const open = () => void (scene.wal = scene.openWriter());
    if (soon) return scene.wal.close().then(open);
    scene.wal.closeSync();
    return open();
  }),
  retention,
  refused,
];

/** The operation of this name. */
export function operation(name: string): Operation {
  return OPERATIONS.find((one) => one.name === name)!;
}

/** A log to begin with, and how it came about. */
export interface Setup {
  readonly name: string;
  readonly operations: readonly string[];
}

const LONG = [
  "append",
  "append",
  "rotate",
  "batch",
  "rotate",
  "append",
  "batch",
];

/** Logs to begin with. */
export const SETUPS: readonly Setup[] = [
  { name: "an empty log", operations: [] },
  { name: "one segment", operations: ["append", "batch", "append"] },
  { name: "some segments", operations: LONG },
  {
    name: "cut segments",
    operations: [...LONG, "truncateAfter the middle", "append", "batch"],
  },
  {
    name: "removed segments",
    operations: [...LONG, "truncateBefore the middle", "append"],
  },
  { name: "begun anew", operations: [...LONG, "reset ahead", "batch"] },
];

/** Makes a log; `between` is called before its last operation. */
export function setUp(
  setup: Setup,
  mapped: boolean,
  between: (scene: Scene) => void = () => {},
): Scene {
  const scene = new Scene(mapped);
  const last = setup.operations.length - 1;
  for (const [i, name] of setup.operations.entries()) {
    if (i === last) between(scene);
    scene.perform(operation(name));
  }
  if (last < 0) between(scene);
  return scene;
}
