/**
 * damage to a log whose every entry was acknowledged before a clean close:
 * opening is refused, or reading is, or every entry is right. Never a wrong,
 * missing or extra entry, and nothing changes on the disk when opening is
 * refused.
 *
 * The budget counts flipped bits: 3 000 in all files of a log of several
 * segments, or every bit of a log of one segment besides.
 */
import { describe, it } from "node:test";
import { join } from "node:path";
import { openWalSync, WalCorruptedError } from "../mod.ts";
import { assert, assertEquals } from "./_assert.ts";
import { budgetOf, replay, seedOf, shardOf } from "./_budget.ts";
import {
  copyFiles,
  expectAll,
  type Expected,
  type Files,
  judge,
  LOG,
  makeLog,
  type Outcome,
  plantFiles,
  quietDisk,
  readFiles,
  sameFiles,
  segmentFile,
  takeFiles,
  writeFiles,
} from "./_log_bytes.ts";
import { Random, type SimulatedStorage } from "../testing/mod.ts";
import { STORAGES, temporaryFolder } from "./_storages.ts";

const USUAL_SEED = 20261122;
const SEED = seedOf(USUAL_SEED);
const REPLAY = replay("tests/damage_test.ts", USUAL_SEED);
const SHARD = shardOf();
const SMOKE_BITS = "Deno" in globalThis ? 3000 : 1000;
/** All bits of a segment of 64 KiB and of its manifest. */
const EVERY_BIT = 8 * (65536 + 256);
const BITS = budgetOf({ smoke: SMOKE_BITS, long: EVERY_BIT });
/** Bits flipped at random; a run over every bit begins with the usual ones. */
const FLIPS = BITS < EVERY_BIT ? BITS : SMOKE_BITS;
/** Bits in one test. */
const PART = 500;
const WORKER = "worker";
const SHOWN = ["live", "wake"];
/** Where the consumer stands, and where it stood before. */
const POSITIONS = { last: 9, before: 5 } as const;

/** A closed log of several segments, and older states of its files. */
interface Subject {
  /** What the log is made of. */
  readonly files: Files;
  /** What it has shown to readers. */
  readonly shown: Files;
  readonly expected: readonly Expected[];
  readonly history: readonly Files[];
}

/** Several segments; blocks full and not; batches, cuts, a transaction. */
function makeSubject(seed: number): Subject {
  const random = new Random(seed);
  const disk = quietDisk(seed);
  const history: Files[] = [];
  const options = { storage: disk, segmentBytes: 65536 };
  const data = () => random.bytes(random.int(200));
  let wal = openWalSync(LOG, options);
  const keep = () => {
    history.push(ownFiles(takeFiles(disk)));
  };
  for (let i = 0; i < 100; i++) wal.appendSync({ data: data(), term: i });
  wal.truncateBeforeSync(5);
  keep();
  wal.rotateSync();
  wal.appendBatchSync([data(), data(), data(), data()]);
  wal.truncateAfterSync(102);
  keep();
  wal.appendBatchSync([data(), data()]);
  wal.closeSync();
  keep();
  wal = openWalSync(LOG, options);
  for (let i = 0; i < 70; i++) wal.appendSync(data());
  keep();
  wal.appendBatchSync(Array.from({ length: 5 }, data));
  const transaction = wal.beginTransaction();
  for (let i = 0; i < 3; i++) transaction.add(data());
  transaction.commitSync();
  wal.closeSync();
  const all = takeFiles(disk);
  const files = ownFiles(all);
  const shown = new Map([...all].filter(([name]) => !files.has(name)));
  const expected = expectAll(plantFiles(files));
  return { files, shown, expected, history };
}

/** Without what readers are shown: it is no part of the log. */
function ownFiles(files: Files): Files {
  return new Map([...files].filter(([name]) => !SHOWN.includes(name)));
}

const subject = makeSubject(SEED);
const counts = { refused: 0, unread: 0, right: 0, wrong: 0 };

/** Damages a copy, opens it, and judges. */
function verdict(
  damage: (files: Files) => void,
  { files, expected }: Subject = subject,
): Outcome {
  const damaged = copyFiles(files);
  damage(damaged);
  const disk = plantFiles(damaged);
  const outcome = judge(disk, expected);
  if (outcome.kind === "refused" && !sameFiles(damaged, takeFiles(disk))) {
    return { kind: "wrong", why: "it was refused, but the disk has changed" };
  }
  return outcome;
}

/** Fails with the damage's name when the promise is broken. */
function check(
  what: string,
  damage: (files: Files) => void,
  of: Subject = subject,
): Outcome["kind"] {
  const outcome = verdict(damage, of);
  counts[outcome.kind]++;
  if (outcome.kind === "wrong") {
    throw new Error(`A-3 ${what}: ${outcome.why}\n${REPLAY}`);
  }
  return outcome.kind;
}

function report(what: string): void {
  console.log(`A-3 ${what}, seed ${SEED}: ${JSON.stringify(counts)}`);
  counts.refused =
    counts.unread =
    counts.right =
    counts.wrong =
      0;
}

/** Mostly bytes that mean something; the rest anywhere. */
function pickBit(files: Files, random: Random): { name: string; bit: number } {
  const name = random.pick([...files.keys()]);
  const bytes = files.get(name)!;
  let offset = random.int(bytes.length);
  if (random.chance(0.8)) {
    while (bytes[offset] === 0) offset = random.int(bytes.length);
  }
  return { name, bit: 8 * offset + random.int(8) };
}

function flip(files: Files, name: string, bit: number): void {
  files.get(name)![bit >> 3]! ^= 1 << (bit & 7);
}

/** The numbers of the parts that this process does. */
function partsOf(count: number): number[] {
  return Array.from({ length: Math.ceil(count / PART) }, (_, part) => part)
    .filter((part) => part % SHARD.count === SHARD.nth);
}

describe("A-3 damage: a cleanly closed log", () => {
  it("the log without damage is right", () => {
    assertEquals(subject.expected.length, 178);
    assert(subject.files.size >= 4);
    assertEquals(check("none", () => {}), "right");
    report("none");
  });

  // In parts: Bun ends a test after five seconds.
  for (const part of partsOf(FLIPS)) {
    const [first, last] = [part * PART, Math.min((part + 1) * PART, FLIPS)];
    it(`flipped bits in all files, ${first} to ${last - 1}`, () => {
      const random = new Random(SEED, 1, part);
      for (let i = first; i < last; i++) {
        const { name, bit } = pickBit(subject.files, random);
        check(`bit ${bit} of ${name}`, (files) => flip(files, name, bit));
      }
      report(`${last - first} bits`);
    });
  }

  it("[F29] every flipped byte of the manifest is refused", () => {
    for (let byte = 0; byte < 256; byte++) {
      const kind = check(`manifest ${byte}`, (files) => {
        files.get("manifest")![byte]! ^= 0x10;
      });
      assertEquals(kind, "refused", `byte ${byte}`);
    }
    report("manifest");
  });

  it("512 bytes of zeros, in every sector", () => {
    for (const [name, bytes] of subject.files) {
      for (let at = 0; at < bytes.length; at += 512) {
        if (bytes.subarray(at, at + 512).every((byte) => byte === 0)) continue;
        check(`zeros at ${at} of ${name}`, (files) => {
          files.get(name)!.fill(0, at, at + 512);
        });
      }
    }
    report("zeros");
  });

  it("[F10][F50] a lost sector of a header is repaired by its copy", () => {
    for (const name of subject.files.keys()) {
      if (name === "manifest") continue;
      for (let at = 0; at < 4096; at += 512) {
        const kind = check(`zeros at ${at} of ${name}`, (files) => {
          files.get(name)!.fill(0, at, at + 512);
        });
        assertEquals(kind, "right", `${at} of ${name}`);
      }
      for (const [from, to] of [[0, 2048], [2048, 4096]] as const) {
        const kind = check(`half a header of ${name}`, (files) => {
          files.get(name)!.fill(0xa5, from, to);
        });
        assertEquals(kind, "right", `${from} of ${name}`);
      }
    }
    report("headers");
  });

  it("4 KiB of garbage, in every page", () => {
    const random = new Random(SEED, 2);
    for (const [name, bytes] of subject.files) {
      for (let at = 0; at < bytes.length; at += 4096) {
        check(`garbage at ${at} of ${name}`, (files) => {
          random.fill(files.get(name)!.subarray(at, at + 4096));
        });
      }
    }
    report("garbage");
  });

  it("swapped and duplicated sectors and pages, of all files", () => {
    const random = new Random(SEED, 3);
    const names = [...subject.files.keys()].filter((name) =>
      name !== "manifest"
    );
    for (let i = 0; i < 600; i++) {
      const size = random.pick([512, 4096]);
      const swap = random.chance(0.5);
      const [left, right] = [random.pick(names), random.pick(names)];
      // The written parts: the beginning and the end of a file.
      const pages = random.chance(0.8) ? 12288 : 65536;
      const from = size * random.int(pages / size);
      const to = random.chance(0.2)
        ? 65536 - size * (1 + random.int(4096 / size))
        : size * random.int(pages / size);
      check(`${swap} ${size}: ${left} ${from}, ${right} ${to}`, (files) => {
        const source = files.get(left)!.slice(from, from + size);
        const target = files.get(right)!.slice(to, to + size);
        files.get(right)!.set(source, to);
        if (swap) files.get(left)!.set(target, from);
      });
    }
    report("swapped and duplicated");
  });

  it("[F31] older states of every file, copied over", () => {
    for (const [turn, old] of subject.history.entries()) {
      for (const [name, bytes] of old) {
        check(`${name} of state ${turn}`, (files) => {
          files.set(name, bytes.slice());
        });
      }
    }
    report("stale");
  });

  it("[F12] files of another log, and of other places of this one", () => {
    const other = makeSubject(SEED + 1);
    const names = [...subject.files.keys()];
    for (const name of names) {
      const foreign = other.files.get(name);
      if (foreign === undefined) continue;
      const kind = check(`${name} of another log`, (files) => {
        files.set(name, foreign.slice());
      });
      assertEquals(kind, "refused", name);
    }
    for (const source of names) {
      for (const target of [...names, segmentFile(90)]) {
        if (source === target || target === "manifest") continue;
        check(`${source} as ${target}`, (files) => {
          files.set(target, subject.files.get(source)!.slice());
        });
      }
    }
    report("foreign");
  });

  it("[F34] every missing file is refused", () => {
    for (const name of subject.files.keys()) {
      const kind = check(`no ${name}`, (files) => files.delete(name));
      assertEquals(kind, "refused", name);
    }
    report("missing");
  });

  it("[F9] files that are too short or too long are refused", () => {
    for (const [name, { length }] of subject.files) {
      const sizes = [0, 1, 100, 4095, 4096, length / 2, length - 4096];
      for (const size of [...sizes, length - 1, length + 1, length + 4096]) {
        if (size < 0) continue;
        const kind = check(`${name} of ${size} bytes`, (files) => {
          const bytes = new Uint8Array(size);
          bytes.set(files.get(name)!.subarray(0, size));
          files.set(name, bytes);
        });
        assertEquals(kind, "refused", `${name} of ${size} bytes`);
      }
    }
    report("sizes");
  });

  it("[F60] whatever becomes of what readers are shown, the log is right", () => {
    const random = new Random(SEED, 5);
    const other = makeSubject(SEED + 1);
    assertEquals([...subject.shown.keys()], SHOWN);
    for (const [name, bytes] of subject.shown) {
      const put = (what: string, damaged: Uint8Array<ArrayBuffer>) => {
        const kind = check(`${name}: ${what}`, (files) => {
          for (const [one, own] of subject.shown) files.set(one, own.slice());
          files.set(name, damaged);
        });
        assertEquals(kind, "right", `${name}: ${what}`);
      };
      for (let at = 0; at < 200; at++) {
        const flipped = bytes.slice();
        flipped[at]! ^= 1 << random.int(8);
        put(`byte ${at}`, flipped);
      }
      for (const size of [0, 1, 100, 4095, 4096, 4097, 8192]) {
        const sized = new Uint8Array(size);
        sized.set(bytes.subarray(0, size));
        put(`${size} bytes`, sized);
        random.fill(sized);
        put(`${size} bytes of garbage`, sized);
      }
      put("another log's", other.shown.get(name)!.slice());
      for (const [from, own] of subject.files) put(from, own.slice());
    }
    report("what readers are shown");
  });

  it("[F27] any damage to index and footer is repaired by reading", () => {
    for (const [name, bytes] of subject.files) {
      if (name === "manifest") continue;
      for (let at = bytes.length - 700; at < bytes.length; at += 7) {
        const kind = check(`index ${at} of ${name}`, (files) => {
          files.get(name)!.fill(0xa5, at, at + 5);
        });
        assertEquals(kind, "right", `${at} of ${name}`);
      }
      const kind = check(`no index in ${name}`, (files) => {
        files.get(name)!.fill(0, 40960);
      });
      assertEquals(kind, "right", name);
    }
    report("index");
  });

  it("[F27] a damaged entry hides no other, in any order of reading", () => {
    const name = segmentFile(1);
    const files = copyFiles(subject.files);
    // Somewhere in the 11th entry's data; the index is damaged, too.
    const at = subject.files.get(name)!;
    const view = new DataView(at.buffer);
    const offset = view.getUint32(65536 - 64 - 280 + 24 + 4 * 10, true);
    files.get(name)![offset + 33]! ^= 1;
    for (const alsoIndex of [false, true]) {
      if (alsoIndex) files.get(name)!.fill(1, 65536 - 100, 65536 - 64);
      const wal = openWalSync(LOG, { storage: plantFiles(files) });
      const unread: number[] = [];
      for (const { index, data } of subject.expected) {
        try {
          assertEquals(wal.get(index).data, data);
        } catch {
          unread.push(index);
        }
      }
      wal.closeSync();
      // Without its block, those between it and the next block are lost, too.
      assertEquals(unread[0], 11);
      assert(
        alsoIndex ? unread.at(-1)! <= 64 : unread.length === 1,
        `${unread}`,
      );
    }
  });

  it("[F27] entries appended after damage to the index are readable", () => {
    const files = makeLog((wal) => {
      for (let i = 0; i < 100; i++) wal.appendSync(`entry ${i}`);
    });
    files.get(segmentFile(1))!.fill(7, 65536 - 100, 65536 - 64);
    const wal = openWalSync(LOG, { storage: plantFiles(files) });
    assertEquals(wal.get(1).text(), "entry 0");
    for (let i = 100; i < 200; i++) {
      wal.appendSync(`entry ${i}`);
      assertEquals(wal.get(i + 1).text(), `entry ${i}`);
    }
    assertEquals([...wal].length, 200);
    wal.closeSync();
  });

  it("a damaged consumer is refused, or stands at one of its positions", async () => {
    const files = await withConsumer();
    const name = `consumers/${WORKER}`;
    const expected = expectAll(plantFiles(files));
    const found = { refused: 0, last: 0, before: 0 };
    for (let at = 0; at < 8192; at++) {
      // All bits of the two records, and some of what is unused.
      const record = at % 4096 < 64;
      if (!record && at % 97 !== 0) continue;
      for (let bit = 8 * at; bit < 8 * at + (record ? 8 : 1); bit++) {
        const damaged = copyFiles(files);
        flip(damaged, name, bit);
        found[await standingOf(plantFiles(damaged), expected)]++;
      }
    }
    for (const size of [0, 63, 64, 4096, 8191, 8193]) {
      const damaged = copyFiles(files);
      const bytes = new Uint8Array(size);
      bytes.set(files.get(name)!.subarray(0, size));
      damaged.set(name, bytes);
      const kind = await standingOf(plantFiles(damaged), expected);
      assertEquals(kind, "refused", `${size} bytes`);
      found[kind]++;
    }
    console.log(`A-3 consumer: ${JSON.stringify(found)}`);
    assert(found.before > 0 && found.last > 0);
  });

  const real = STORAGES.filter((one) => one.real);
  const parts = real.flatMap((storage) =>
    [1, 2, 3].map((part) => ({
      storage,
      part,
    }))
  );
  for (const { storage, part } of parts) {
    it(`20 damages of all kinds on ${storage.kind} storage, ${part}/3`, () => {
      using folder = temporaryFolder();
      const random = new Random(SEED, 4, part);
      for (let i = 0; i < 20; i++) {
        const damaged = copyFiles(subject.files);
        const { name, bit } = pickBit(damaged, random);
        const bytes = damaged.get(name)!;
        const kind = random.int(4);
        if (kind < 2) flip(damaged, name, bit);
        else if (kind === 2) bytes.fill(0, bit >> 3, (bit >> 3) + 512);
        else damaged.set(name, bytes.slice(0, bit >> 3));
        const path = join(folder.path, String(i));
        writeFiles(damaged, path);
        const outcome = judge(storage.make(), subject.expected, {}, path);
        counts[outcome.kind]++;
        const what = `number ${i}: ${kind}: ${bit} of ${name}`;
        if (outcome.kind === "wrong") {
          throw new Error(`A-3 ${what}: ${outcome.why}\n${REPLAY}`);
        }
        if (outcome.kind !== "refused") continue;
        assert(sameFiles(damaged, readFiles(path)), `${what}: it has changed`);
      }
      report(`20 on ${storage.kind}`);
    });
  }

  if (BITS >= EVERY_BIT) {
    const small = oneSegment();
    for (const [name, { length }] of small.files) {
      const pages = Math.ceil(length / 4096);
      for (let page = SHARD.nth; page < pages; page += SHARD.count) {
        it(`every bit of page ${page} of ${name}`, () => {
          const last = 8 * Math.min(length, 4096 * (page + 1));
          for (let bit = 8 * 4096 * page; bit < last; bit++) {
            const damage = (files: Files) => flip(files, name, bit);
            check(`bit ${bit} of ${name}`, damage, small);
          }
          report(`every bit of page ${page} of ${name}`);
        });
      }
    }
  }
});

/** A closed log of one segment of 64 KiB. */
function oneSegment(): Subject {
  const files = ownFiles(makeLog((wal) => {
    for (let i = 0; i < 70; i++) wal.appendSync(`${i}`.repeat(i));
  }));
  const expected = expectAll(plantFiles(files));
  return { files, shown: new Map(), expected, history: [] };
}

/** A closed log with a consumer that has moved twice. */
async function withConsumer(): Promise<Files> {
  const disk = quietDisk();
  const wal = openWalSync(LOG, { storage: disk, segmentBytes: 65536 });
  for (let i = 0; i < 10; i++) wal.appendSync(`entry ${i}`);
  const consumer = await wal.consumer(WORKER);
  await consumer.ack(POSITIONS.before);
  await consumer.ack(POSITIONS.last);
  await consumer[Symbol.asyncDispose]();
  wal.closeSync();
  return takeFiles(disk);
}

/** What became of the consumer; the entries must be right whatever it is. */
async function standingOf(
  storage: SimulatedStorage,
  expected: readonly Expected[],
): Promise<"refused" | keyof typeof POSITIONS> {
  const outcome = judge(storage, expected);
  assertEquals(outcome.kind, "right", REPLAY);
  const wal = openWalSync(LOG, { storage });
  try {
    const consumer = await wal.consumer(WORKER);
    const { position } = consumer;
    await consumer[Symbol.asyncDispose]();
    if (position === POSITIONS.last) return "last";
    assertEquals(position, POSITIONS.before, REPLAY);
    return "before";
  } catch (error) {
    if (!(error instanceof WalCorruptedError)) throw error;
    return "refused";
  } finally {
    wal.closeSync();
  }
}
