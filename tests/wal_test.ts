import { renameSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import {
  openWal,
  openWalSync,
  SegmentNotFoundError,
  type Wal,
  WalLockedError,
} from "../mod.ts";
import {
  assertEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { Random } from "../testing/mod.ts";
import { temporaryFolder } from "./_storages.ts";
import {
  block,
  entries,
  onEach,
  onEachTwin,
  type Place,
  REAL,
  removeFile,
  SEGMENT_BYTES,
  segmentNames,
  texts,
  type Twin,
  TWINS,
} from "./_wal.ts";

describe("Wal: the example", () => {
  it("openWal, append, get", async () => {
    using folder = temporaryFolder();
    await using wal = await openWal(join(folder.path, "wal_data"));
    const index = await wal.append("Hello World!");
    assertEquals(wal.get(index).text(), "Hello World!");
  });

  it("openWalSync, appendSync, get", () => {
    using folder = temporaryFolder();
    using wal = openWalSync(join(folder.path, "wal_data"));
    const index = wal.appendSync("Hello World!");
    assertEquals(wal.get(index).text(), "Hello World!");
  });
});

describe("Wal: the same files everywhere", () => {
  it("mapped and files take turns with one folder", async () => {
    using folder = temporaryFolder();
    const path = join(folder.path, "log");
    const expected: string[] = [];
    for (let turn = 0; turn < 12; turn++) {
      const storage = REAL[turn % REAL.length]!.make();
      const options = { storage, segmentBytes: SEGMENT_BYTES };
      await using wal = await openWal(path, options);
      assertEquals(texts(wal), expected);
      for (let i = 0; i < 5; i++) {
        const text = `turn ${turn}, ${i} `.padEnd(i * 3000, "x");
        await wal.append(text);
        expected.push(text);
      }
      if (turn % 4 === 3) {
        await wal.truncateAfter(expected.length - 7);
        expected.splice(-7);
      }
    }
  });

  onEach("one folder under two names has one writer", async (place) => {
    await using wal = await place.open();
    const link = `${place.path}-link`;
    symlinkSync(place.path, link);
    const { storage } = place;
    for (const name of [link, `${place.path}/../log/.`, `${place.path}//`]) {
      const error = await assertRejects(
        () => openWal(name, { storage }),
        WalLockedError,
      );
      assertEquals(error.pid, process.pid);
    }
    for (const other of REAL) {
      assertThrows(
        () => openWalSync(place.path, { storage: other.make() }),
        WalLockedError,
      );
    }
    await wal.append("x");
    await wal.close();
    using again = openWalSync(link, { storage });
    assertEquals(texts(again), ["x"]);
  }, REAL);

  onEachTwin("a folder that moved is the same log", async (place, twin) => {
    const wal = await twin.open(place);
    await twin.appendBatch(wal, entries(5));
    await twin.close(wal);
    const moved = { ...place, path: `${place.path}-moved` };
    renameSync(place.path, moved.path);
    const { storage } = place;
    using again = openWalSync(moved.path, { storage });
    assertEquals(texts(again), entries(5));
    assertEquals(again.directory, moved.path);
  }, REAL);
});

describe("Wal: a segment file that goes away", () => {
  onEachTwin("SegmentNotFoundError with its path", async (place, twin) => {
    place.sound = false;
    const wal = await twin.open(place, { sync: "never" });
    for (let i = 1; i <= 20; i++) {
      await twin.append(wal, block(50_000, i));
    }
    await wal.flush();
    // Read elsewhere until the first segment is not open any more.
    for (let i = 2; i <= 20; i++) assertEquals(wal.get(i).data[0], i);
    const name = segmentNames(place)[0]!;
    removeFile(place, name);
    for (const read of [() => void wal.get(1), () => void wal.at(1)]) {
      const error = assertThrows(read, SegmentNotFoundError);
      assertStrictEquals(error.code, "SEGMENT_NOT_FOUND");
      assertEquals(error.path, `${place.path}/${name}`);
      assertStringIncludes(error.message, name);
      assertStringIncludes(error.message, "expected");
    }
    assertEquals(wal.get(2).data, block(50_000, 2));
    assertEquals(await twin.append(wal, "on"), 21);
    await twin.close(wal);
  });
});

/** What the log must hold. */
interface ModelEntry {
  text: string;
  term: number;
}

/** Random calls against an array; the log must agree after each. */
async function walk(place: Place, twin: Twin, seed: number): Promise<void> {
  const random = new Random(seed);
  const pick = (count: number) => random.int(count);
  const sizes = [0, 1, 30, 300, 4000, 30_000, 90_000];
  const model: ModelEntry[] = [];
  const make = (): { data: string; term?: number } => {
    const head = `${model.length}/${seed} `;
    const data = head.padEnd(sizes[pick(sizes.length)]!, "·".repeat(3));
    return pick(4) === 0 ? { data, term: pick(9) } : { data };
  };
  const note = (entry: { data: string; term?: number }) => {
    const term = entry.term ?? model.at(-1)?.term ?? 0;
    model.push({ text: entry.data, term });
  };
  const open = () =>
    twin.open(place, { sync: pick(2) === 0 ? "never" : "always" });
  let wal: Wal = await open();
  for (let step = 0; step < 60; step++) {
    const what = pick(20);
    if (what < 8) {
      const entry = make();
      assertEquals(await twin.append(wal, entry), model.length + 1);
      note(entry);
    } else if (what < 13) {
      const batch = Array.from({ length: pick(6) }, make);
      const first = model.length + 1;
      const indexes = await twin.appendBatch(wal, batch);
      assertEquals(indexes, batch.map((_, i) => first + i));
      batch.forEach(note);
    } else if (what < 16) {
      const last = Math.max(0, model.length - pick(1 + pick(12)));
      await twin.truncateAfter(wal, last);
      model.length = last;
    } else if (what === 16) await twin.rotate(wal);
    else if (what === 17) await twin.flush(wal);
    else {
      await twin.close(wal);
      wal = await open();
      assertEquals(wal.recovery.outcome, "clean");
      assertEquals(wal.recovery.entryCount, model.length);
    }
    assertEquals(wal.length, model.length, `step ${step} of seed ${seed}`);
    assertEquals(wal.nextIndex, model.length + 1);
    if (model.length > 0) {
      const index = 1 + pick(model.length);
      const { text, term } = model[index - 1]!;
      assertEquals(wal.get(index).text(), text);
      assertEquals(wal.get(index).term, term);
    }
    if (step % 10 === 9) {
      const found = Array.from(wal, (entry) => ({
        text: entry.text(),
        term: entry.term,
      }));
      assertEquals(found, model, `step ${step} of seed ${seed}`);
      const back = Array.from(
        wal.entries({ reverse: true }),
        (entry) => entry.index,
      );
      assertEquals(back, model.map((_, i) => model.length - i));
    }
  }
  await twin.close(wal);
}

describe("Wal: random calls agree with an array", () => {
  for (const twin of TWINS) {
    for (let seed = 1; seed <= 4; seed++) {
      onEach(
        `seed ${seed}, ${twin.name}`,
        (place) => walk(place, twin, seed),
      );
    }
  }
});
