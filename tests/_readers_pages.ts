/**
 * Live pages that lie: what readers make of a page that a hostile hand, a
 * power cut or a copy has left.
 *
 * @module
 */

import { IndexOutOfRangeError, WalError, type WalReader } from "../mod.ts";
import { LIVE, LIVE_BYTES, LIVE_NAME, LIVE_STATE } from "../src/format.ts";
import { viewOf as dataViewOf } from "../src/fields.ts";
import {
  decodeChain,
  encodeChain,
  encodeDurable,
  endCheck,
  type LiveChain,
} from "../src/live_page.ts";
import type { Window } from "../src/frame.ts";
import type { Random } from "../testing/mod.ts";
import { assert, assertEquals } from "./_assert.ts";
import { readTold, type Told, TOLD_BYTES } from "./_readers_entry.ts";
import { type Scene, type Setup, setUp } from "./_readers_scene.ts";
import { Tap } from "./_readers_tap.ts";

const RETRY_MS = 60;
/** No call of a reader makes more calls of the storage in so short a log. */
const CALLS_MAX = 3000;

/** How a page lies. */
export interface Lie {
  readonly name: string;
  tell(page: Window, random: Random): void;
}

function chain(
  name: string,
  change: (chain: LiveChain) => Partial<LiveChain>,
): Lie {
  return {
    name,
    tell(page) {
      const found = decodeChain(page)!;
      encodeChain(page, { ...found, ...change(found) });
      bump(page, 2);
    },
  };
}

function end(name: string, value: (end: number) => number): Lie {
  return {
    name,
    tell({ view }) {
      const to = value(view.getUint32(LIVE.end, true));
      view.setUint32(LIVE.end, to, true);
      view.setUint32(LIVE.endCheck, endCheck(to), true);
    },
  };
}

function bump({ view }: Window, by: number): void {
  const sequence = view.getUint32(LIVE.sequence, true);
  view.setUint32(LIVE.sequence, sequence + by, true);
}

const OTHER = "0123456789abcdef0123456789abcdef";

/** All of them. */
export const LIES: readonly Lie[] = [
  { name: "odd for ever", tell: (page) => bump(page, 1) },
  { name: "zeros", tell: ({ bytes }) => void bytes.fill(0) },
  { name: "garbage", tell: ({ bytes }, random) => void random.fill(bytes) },
  {
    name: "garbage behind the magic",
    tell: ({ bytes }, random) => void random.fill(bytes.subarray(8)),
  },
  {
    name: "a flipped bit",
    tell: ({ bytes }, random) => {
      bytes[random.int(LIVE.crc + 4)]! ^= 1 << random.int(8);
    },
  },
  {
    name: "half of an end",
    tell: ({ view }) => view.setUint32(LIVE.end, 8192, true),
  },
  {
    name: "half of a durable mark",
    tell: ({ view }) => view.setUint32(LIVE.durable, 8192, true),
  },
  {
    name: "a durable mark beyond the end",
    tell: ({ view }) => encodeDurable(view, 1e9),
  },
  end("an end beyond the frames", (found) => found + 4096),
  end("an end beyond the file", () => 2 ** 30),
  end("an end inside of a frame", (found) => Math.max(4096, found - 16)),
  // Frames of the smallest entries take 40 bytes more.
  end(
    "an end inside of a batch",
    (found) => Math.max(4096, found - TOLD_BYTES - 40),
  ),
  end("an end inside of a header", (found) => found + 8),
  end("an end at the header page", () => 4096),
  chain("another boot", () => ({ boot: OTHER })),
  chain("another log", () => ({ logId: OTHER })),
  chain("another session", () => ({ session: OTHER })),
  chain("another salt", ({ salt }) => ({ salt: (salt ^ 1) >>> 0 })),
  chain("closed", () => ({ state: LIVE_STATE.closed })),
  chain("a later segment", ({ number }) => ({ number: number + 1 })),
  chain("a missing segment", ({ number }) => ({ number: number + 1000 })),
  chain("an earlier segment", ({ number }) => ({
    number: Math.max(1, number - 1),
  })),
  chain("a first index beyond", ({ firstIndex }) => ({
    firstIndex: firstIndex + 1000,
  })),
  chain("a first index of 1", () => ({ firstIndex: 1 })),
  chain("the highest first index", () => ({
    firstIndex: Number.MAX_SAFE_INTEGER,
  })),
  chain("a generation that jumps", ({ generation }) => ({
    generation: generation + 1000,
  })),
  chain("a generation of 0", () => ({ generation: 0 })),
];

/** What was seen. */
export interface PageCounts {
  cases: number;
  right: number;
  errors: Record<string, number>;
}

/** One lie before the eyes of a reader of before and one of afterwards. */
export async function runLie(
  setup: Setup,
  lie: Lie,
  mapped: boolean,
  random: Random,
  counts: PageCounts,
): Promise<void> {
  counts.cases++;
  const scene = setUp(setup, mapped);
  const told = new Map(scene.holding.entries.map((one) => [one.index, one]));
  const before = new Tap(scene.base);
  const old = scene.openReader(before);
  look(old, before, told, counts);
  put(scene, lie, random);
  scene.base.clock.advance(RETRY_MS);
  look(old, before, told, counts);
  await followed(old, scene, told);
  const after = new Tap(scene.base);
  const fresh = attempt(counts, () => scene.openReader(after));
  assert(after.calls < CALLS_MAX, `opening made ${after.calls} calls`);
  if (fresh !== undefined) {
    look(fresh, after, told, counts);
    await followed(fresh, scene, told);
    fresh.closeSync();
  }
  // The next writer makes it right, whatever is there.
  scene.wal.closeSync();
  put(scene, lie, random);
  scene.wal = scene.openWriter();
  scene.base.clock.advance(RETRY_MS);
  const mended = scene.openReader();
  assertEquals(mended.getRange(1, 1e9).map(readTold), [...told.values()]);
  mended.closeSync();
  old.closeSync();
}

function put({ base }: Scene, lie: Lie, random: Random): void {
  const modes = { create: false, directoryMode: 0, fileMode: 0 };
  const file = base.openDirectory("/log", modes)!.open(LIVE_NAME, "write")!;
  const bytes = new Uint8Array(LIVE_BYTES);
  file.readAt(bytes, 0);
  const page = { bytes, view: dataViewOf(bytes) };
  if (decodeChain(page) !== undefined || !lie.name.includes(" ")) {
    lie.tell(page, random);
  }
  file.writeAt(bytes, 0);
  file.close();
}

/** Whatever the page says, each entry that is given is the right one. */
function look(
  reader: WalReader,
  tap: Tap,
  told: ReadonlyMap<number, Told>,
  counts: PageCounts,
): void {
  const start = tap.calls;
  const check = (entry: { index: number; data: Uint8Array<ArrayBuffer> }) => {
    assertEquals(readTold(entry), told.get(entry.index));
    counts.right++;
  };
  attempt(counts, () => reader.getRange(1, 1e9).forEach(check));
  for (const index of [...told.keys(), 1, 1e6]) {
    attempt(counts, () => check(reader.get(index)));
  }
  attempt(counts, () => [...reader.entries({ reverse: true })].forEach(check));
  attempt(counts, () => {
    assert(reader.lastIndex <= Math.max(0, ...told.keys()), "a last index");
    assert(reader.durableIndex <= Math.max(0, ...told.keys()), "durable");
    const next = told.get(reader.lastIndex + 1);
    const whole = reader.lastIndex === 0 || (next?.position ?? 0) === 0;
    assert(whole, `the log ends inside of a batch, at ${reader.lastIndex}`);
    reader.segments();
    reader.stats();
    reader.findByTime(0n);
    reader.findByTerm(0);
  });
  const made = tap.calls - start;
  assert(made < CALLS_MAX, `${told.size} entries took ${made} calls`);
}

/** What a follower is given is right; it may be told why there is no more. */
async function followed(
  reader: WalReader,
  scene: Scene,
  told: ReadonlyMap<number, Told>,
): Promise<void> {
  const ending = new AbortController();
  const entries = reader.follow({ signal: ending.signal });
  let failure: unknown;
  const run = (async () => {
    for await (const entry of entries) {
      assertEquals(readTold(entry), told.get(entry.index));
    }
  })().catch((error) => failure = error);
  for (let i = 0; i < 20; i++) {
    await null;
    if (i % 4 === 3) scene.base.clock.advance(20);
  }
  for (let i = 0; i < 100; i++) await null;
  const over = new Error("over");
  ending.abort(over);
  await run;
  if (failure !== over && !(failure instanceof WalError)) throw failure;
}

/** Refusals are in the words of the library. */
function attempt<T>(counts: PageCounts, action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof WalError)) throw error;
    const { name } = error;
    if (error instanceof IndexOutOfRangeError) return undefined;
    counts.errors[name] = (counts.errors[name] ?? 0) + 1;
    return undefined;
  }
}
