/**
 * Random logs, random damage, and what a salvage of them must hold.
 *
 * @module
 */
import {
  openReaderSync,
  type Wal,
  WalCorruptedError,
  type WalReader,
} from "../mod.ts";
import type { Random } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertInstanceOf,
} from "./_assert.ts";
import {
  type Files,
  killedLog,
  LOG,
  makeLog,
  plantFiles,
  sameBytes,
} from "./_log_bytes.ts";
import { mapEntries, type Place, touched } from "./_log_map.ts";

/** A log made at random, and what it must hold. */
export interface Subject {
  readonly files: Files;
  readonly truth: ReadonlyMap<number, Uint8Array>;
  readonly firstIndex: number;
  readonly nextIndex: number;
  readonly places: readonly Place[];
  readonly killed: boolean;
  readonly truncated: boolean;
}

/** A log made by random calls. */
export function makeSubject(random: Random, seed: number): Subject {
  const truncated = random.chance(0.5);
  const killed = random.chance(0.3);
  const make = killed ? killedLog : makeLog;
  const files = make(
    (wal) => {
      const count = 5 + random.int(25);
      for (let i = 0; i < count; i++) step(random, wal, truncated);
      if (killed) wal.flushSync();
    },
    {},
    seed,
  );
  using reader = openReaderSync(LOG, { storage: plantFiles(files) });
  const firstIndex = reader.firstIndex || reader.nextIndex;
  const truth = new Map([...reader].map(({ index, data }) => [index, data]));
  const { nextIndex } = reader;
  const places = mapEntries(files).filter((one) =>
    truth.has(one.index) || one.index < firstIndex
  );
  return { files, truth, firstIndex, nextIndex, places, killed, truncated };
}

function step(random: Random, wal: Wal, truncated: boolean): void {
  const data = () => random.bytes(random.int(random.chance(0.1) ? 3000 : 120));
  const kind = random.int(100);
  if (kind < 50) {
    for (let i = random.int(60); i >= 0; i--) {
      wal.appendSync(data(), { durable: random.chance(0.25) });
    }
  } else if (kind < 70) {
    const batch = Array.from({ length: 1 + random.int(8) }, data);
    wal.appendBatchSync(batch, { durable: random.chance(0.5) });
  } else if (kind < 80) wal.rotateSync();
  else if (kind < 85) wal.flushSync();
  else if (!truncated || wal.length === 0 || kind > 97) {
    using tx = wal.beginTransaction();
    for (let i = random.int(4); i >= 0; i--) tx.add(data());
    tx.commitSync();
  } else if (kind < 91) {
    const least = wal.firstIndex - 1;
    wal.truncateAfterSync(Math.max(least, wal.lastIndex - random.int(60)));
  } else if (kind < 95) {
    wal.truncateBeforeSync(wal.firstIndex + random.int(wal.length));
  } else wal.resetSync(wal.nextIndex + random.int(10));
}

/** What was done to a log. */
export interface Damage {
  readonly what: string[];
  /** Entries that may be lost, by the bytes that were touched. */
  readonly touched: Set<number>;
  /** Whether headers or whole files were hit. */
  chain: boolean;
  manifest: boolean;
}

/** Damages the files at random. */
export function hurt(random: Random, subject: Subject, files: Files): Damage {
  const { places } = subject;
  const names = [...files.keys()].filter((name) => name.endsWith(".wal"));
  const done: Damage = {
    what: [],
    touched: new Set(),
    chain: false,
    manifest: false,
  };
  for (let i = random.int(3); i >= 0; i--) {
    const name = random.pick(names);
    const bytes = files.get(name);
    if (bytes === undefined) continue;
    const own = places.filter((one) => one.file === name);
    const end = Math.max(4104, ...own.map((one) => one.to));
    const at = 4096 + random.int(end - 4096);
    const hit = (from: number, to: number) => {
      done.what.push(`${name.slice(-6, -4)}: ${from} to ${to}`);
      const lost = touched(places, name, from, to);
      for (const index of lost) done.touched.add(index);
      if (from < 4096) done.chain = true;
    };
    const kind = random.int(10);
    if (kind < 4) {
      bytes[at]! ^= 1 << random.int(8);
      hit(at, at + 1);
    } else if (kind < 6) {
      const size = kind === 4 ? 512 : 4096;
      const from = at - at % size;
      bytes.set(random.bytes(size).fill(0, kind === 4 ? 0 : size), from);
      hit(from, from + size);
    } else if (kind === 6) {
      const place = random.int(4096);
      bytes[place]! ^= 1 << random.int(8);
      hit(place, place + 1);
    } else if (kind === 7) {
      bytes.fill(0, 0, 4096);
      hit(0, 4096);
    } else if (kind === 8) {
      files.delete(name);
      hit(0, Infinity);
    } else {
      done.what.push("manifest");
      done.manifest = true;
      files.delete("manifest");
    }
  }
  return done;
}

/**
 * Holds what is served of a damaged log against the truth. Returns how many
 * entries are lost that no byte was changed of.
 */
export function judgeSalvage(
  reader: WalReader,
  subject: Subject,
  damage: Damage,
): number {
  const { truth, firstIndex, nextIndex, places } = subject;
  const { gaps } = reader.recovery;
  const inGap = (index: number) =>
    gaps.some((one) =>
      one.firstLostIndex <= index && index <= one.lastLostIndex
    );
  const found = new Set<number>();
  const lost = new Set<number>();
  for (let index = 1; index < Math.max(nextIndex, reader.nextIndex); index++) {
    const expected = truth.get(index);
    let data: Uint8Array | undefined;
    try {
      data = reader.at(index)?.data;
      assertFalse(inGap(index), `entry ${index} is served in a gap`);
    } catch (error) {
      assertInstanceOf(error, WalCorruptedError);
      assert(inGap(index), `entry ${index} throws outside of the gaps`);
    }
    if (data !== undefined) found.add(index);
    else if (expected !== undefined) lost.add(index);
    // Only the manifest tells what was removed from the front.
    const removed = index < firstIndex && damage.manifest;
    if (data === undefined || removed) continue;
    assert(expected !== undefined, `entry ${index} comes from nowhere`);
    assert(sameBytes(data, expected), `entry ${index} is wrong`);
  }
  assertEquals(reader.length, found.size);
  const batches = new Map<number, number[]>();
  for (const { batch, index } of places) {
    if (!truth.has(index)) continue;
    batches.set(batch, [...batches.get(batch) ?? [], index]);
  }
  for (const [batch, indexes] of batches) {
    const there = indexes.filter((index) => found.has(index)).length;
    const whole = there === 0 || there === indexes.length;
    assert(whole, `the batch of ${batch} is there in part`);
  }
  return judgeLost(lost, subject, damage);
}

/** How many entries are lost that no byte was changed of. */
function judgeLost(
  lost: ReadonlySet<number>,
  { places, killed, truncated }: Subject,
  damage: Damage,
): number {
  const batchOf = new Map(places.map((one) => [one.index, one.batch]));
  let untouched = 0;
  for (const index of lost) {
    if (damage.touched.has(index)) continue;
    untouched++;
    // The last sync of a killed log has no voucher; where a lost link may
    // have ended a segment is not known.
    if (killed || (truncated && damage.chain)) continue;
    // Else only a batch right behind a hole, which may be part of another.
    const batch = batchOf.get(index)!;
    const inBatch = batch !== index || batchOf.get(index + 1) === batch;
    assert(
      inBatch && lost.has(batch - 1),
      `entry ${index} is lost for nothing`,
    );
  }
  return untouched;
}

/** The segment files' names, in order. */
export function walNames(files: Files): string[] {
  return [...files.keys()].filter((name) => name.endsWith(".wal")).sort();
}
