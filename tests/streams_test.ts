import { describe, it } from "node:test";
import {
  EmptyDataError,
  type Entry,
  type EntryInput,
  type FollowOptions,
  InvalidEntryError,
  memoryStorage,
  openWal,
  StorageError,
  type Wal,
  WalClosedError,
  WalFailedError,
  type WalOptions,
  type WritableOptions,
} from "../mod.ts";
import type { SimulatedStorage } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertInstanceOf,
  assertLessOrEqual,
  assertRejects,
  assertStrictEquals,
  assertThrows,
} from "./_assert.ts";
import { assertOutOfRange, numbered, soon, words } from "./_follow_steps.ts";
import {
  block,
  entries,
  isSettled,
  onEach,
  type Place,
  SEGMENT_BYTES,
  settled,
  simulatedPlace,
  texts,
  turn,
} from "./_wal.ts";

/** A log of so many entries. */
async function logOf(
  place: Place,
  count: number,
  options?: WalOptions,
): Promise<Wal> {
  const wal = await place.open(options);
  if (count > 0) await wal.appendBatch(entries(count));
  return wal;
}

/** "3 entry 3", "4 entry 4", … */
function known(first: number, last: number): string[] {
  return numbered(entries(last - first + 1, first), first);
}

/** The next `count` entries in words. */
async function read(
  reader: ReadableStreamDefaultReader<Entry>,
  count: number,
): Promise<string[]> {
  const given: string[] = [];
  while (given.length < count) {
    const { done, value } = await soon(reader.read());
    assert(!done, `the stream ended after ${given.length} of ${count}`);
    given.push(words(value));
  }
  return given;
}

/** All entries of a stream that ends. */
async function readAll(stream: ReadableStream<Entry>): Promise<string[]> {
  const given: string[] = [];
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await soon(reader.read());
    if (done) return given;
    given.push(words(value));
  }
}

/** A log for what is piped. */
function memoryLog(options?: WalOptions): Promise<Wal> {
  const storage = memoryStorage();
  return openWal("target", {
    storage,
    segmentBytes: SEGMENT_BYTES,
    ...options,
  });
}

const DONE = { done: true, value: undefined } as const;

describe("WalReader.readable()", () => {
  onEach("gives the history, then every entry as it comes", async (place) => {
    const wal = await logOf(place, 3);
    const reader = wal.readable().getReader();
    assertEquals(await read(reader, 3), known(1, 3));
    const next = reader.read();
    assertFalse(await isSettled(next), "there is no fourth entry");
    await wal.append("entry 4");
    assertEquals(words((await next).value!), "4 entry 4");
    const end = reader.read();
    await wal.close();
    assertEquals<unknown>(await soon(end), DONE);
    await reader.closed;
    assertThrows(() => wal.readable(), WalClosedError);
  });

  onEach("takes the options of follow()", async (place) => {
    await using wal = await logOf(place, 9, { sync: "never" });
    await wal.flush();
    await wal.append("entry 10");
    const from = wal.readable({ from: 8, durable: true }).getReader();
    assertEquals(await read(from, 2), known(8, 9));
    const step = from.read();
    assertFalse(await isSettled(step), "10 is not durable");
    await wal.flush();
    assertEquals(words((await step).value!), "10 entry 10");
    const end = wal.readable({ from: "end" }).getReader();
    await wal.append("entry 11");
    assertEquals(await read(end, 1), known(11, 11));
    const view = wal.readable({ zeroCopy: true }).getReader();
    assertEquals(await read(view, 11), known(1, 11));
    await Promise.all([from, end, view].map((reader) => reader.cancel()));
  });

  onEach("errors as the follower throws", async (place) => {
    await using wal = await logOf(place, 9);
    const cut = wal.readable().getReader();
    await read(cut, 5);
    await wal.truncateAfter(4);
    const error = await assertOutOfRange(cut.read(), "truncated");
    await cut.closed.then(
      () => assert(false, "the stream is errored"),
      (thrown) => assertStrictEquals(thrown, error),
    );
    const passed = wal.readable().getReader();
    await read(passed, 1);
    await wal.truncateBefore(3);
    await assertOutOfRange(passed.read(), "removed");
    const gone = wal.readable({ from: 2 }).getReader();
    await assertOutOfRange(gone.read(), "removed");
    const ending = new AbortController();
    const { signal } = ending;
    const aborted = wal.readable({ from: "end", signal }).getReader();
    const step = aborted.read();
    assertFalse(await isSettled(step));
    const reason = { why: "enough" };
    ending.abort(reason);
    for (const one of [step, aborted.closed]) {
      await soon<unknown>(one).then(
        () => assert(false, "the signal was aborted"),
        (thrown) => assertStrictEquals(thrown, reason),
      );
    }
    const before = wal.readable({ signal }).getReader();
    await before.read().then(
      () => assert(false, "the signal was aborted before"),
      (thrown) => assertStrictEquals(thrown, reason),
    );
  });

  onEach("wrong options are refused at the call", async (place) => {
    await using wal = await logOf(place, 1);
    const cases: [unknown, ErrorConstructor, string][] = [
      [null, TypeError, "options is null, expected an object"],
      ["live", TypeError, 'options is "live", expected an object'],
      [{ live: 0 }, TypeError, "live is 0, expected true or false"],
      [{ live: null }, TypeError, "live is null"],
      [{ from: "now" }, RangeError, 'from is "now"'],
      [{ from: 0.5 }, RangeError, "from is 0.5"],
      [{ durable: "yes" }, TypeError, 'durable is "yes"'],
      [{ zeroCopy: 1 }, TypeError, "zeroCopy is 1"],
      [{ signal: 1 }, TypeError, "signal is 1"],
      [{ highWaterMark: 1 }, TypeError, '"highWaterMark" is not an option'],
    ];
    for (const [options, errorClass, message] of cases) {
      const call = () => wal.readable(options as FollowOptions);
      assertThrows(call, errorClass, message);
    }
    const absent = { live: undefined, from: undefined, signal: undefined };
    const reader = wal.readable(absent).getReader();
    assertEquals(await read(reader, 1), known(1, 1));
    assertFalse(await isSettled(reader.read()), "it is live");
  });
});

describe("WalReader.readable(): live: false", () => {
  onEach("ends with the last entry of the call", async (place) => {
    await using wal = await logOf(place, 5);
    const streams = [
      wal.readable({ live: false }),
      wal.readable({ live: false, from: 4 }),
      wal.readable({ live: false, from: "end" }),
      wal.readable({ live: false, from: 6 }),
      wal.readable({ live: false, from: 60 }),
    ];
    await wal.appendBatch(entries(5, 6));
    const given = [];
    for (const stream of streams) given.push(await readAll(stream));
    assertEquals(given, [known(1, 5), known(4, 5), [], [], []]);
    assertEquals(await readAll(wal.readable({ live: false })), known(1, 10));
    const live = wal.readable({ live: true }).getReader();
    await read(live, 10);
    assertFalse(await isSettled(live.read()));
  });

  onEach("of an empty log it is empty", async (place) => {
    await using wal = await place.open();
    assertEquals(await readAll(wal.readable({ live: false })), []);
    await wal.reset(70);
    assertEquals(await readAll(wal.readable({ live: false })), []);
    await wal.append("seventy");
    assertEquals(await readAll(wal.readable({ live: false })), ["70 seventy"]);
    await wal.truncateBefore(71);
    assertEquals(await readAll(wal.readable({ live: false })), []);
    const removed = wal.readable({ live: false, from: 70 });
    assertEquals(wal.nextIndex, 71);
    await assertOutOfRange(removed.getReader().read(), "removed");
  });

  onEach("a truncation meanwhile", async (place) => {
    await using wal = await logOf(place, 10);
    const [given, ahead, front] = [
      wal.readable({ live: false }).getReader(),
      wal.readable({ live: false }).getReader(),
      wal.readable({ live: false }).getReader(),
    ];
    await read(given, 8);
    await read(ahead, 3);
    await read(front, 1);
    await wal.truncateAfter(6);
    await assertOutOfRange(given.read(), "truncated");
    assertEquals(await read(ahead, 3), known(4, 6));
    assertEquals<unknown>(await ahead.read(), DONE);
    await wal.truncateBefore(7);
    await assertOutOfRange(front.read(), "removed");
  });

  onEach("with durable: true it waits for the last one", async (place) => {
    await using wal = await place.open({ sync: "never" });
    wal.appendBatchSync(entries(3));
    const given = readAll(wal.readable({ live: false, durable: true }));
    assertFalse(await isSettled(given), "nothing is durable yet");
    wal.appendSync("entry 4");
    await wal.flush();
    assertEquals(await given, known(1, 3));
  });
});

describe("WalReader.readable(): demand", () => {
  onEach("nothing is read ahead", async (place) => {
    await using wal = await logOf(place, 3);
    const reader = wal.readable().getReader();
    await turn();
    await wal.truncateAfter(0);
    await wal.appendBatch(["one", "two", "three"]);
    assertEquals(await read(reader, 1), ["1 one"]);
    await turn();
    await wal.truncateAfter(1);
    await wal.append("second");
    assertEquals(await read(reader, 1), ["2 second"]);
    await reader.cancel();
  });

  it("the disk is asked when the reader asks", async () => {
    const place = simulatedPlace(1, { mapped: false, autoSettle: true });
    await using wal = await logOf(place, 100);
    let reads = 0;
    place.disk.onCall(({ operation }) => {
      if (operation === "read") reads++;
    });
    const reader = wal.readable().getReader();
    await turn();
    assertEquals(reads, 0);
    await read(reader, 1);
    assertGreater(reads, 0);
    place.disk.onCall(undefined);
  });

  onEach("a slow sink is not run over", async (place) => {
    await using wal = await logOf(place, 1000);
    let passed = 0;
    const counted = wal.readable({ live: false }).pipeThrough(
      new TransformStream<Entry, Entry>({
        transform(entry, controller) {
          passed++;
          controller.enqueue(entry);
        },
      }),
    );
    const release: (() => void)[] = [];
    const piped = counted.pipeTo(
      new WritableStream({
        write: () => new Promise((resolve) => void release.push(resolve)),
      }),
    );
    for (let taken = 1; taken <= 3; taken++) {
      await turn();
      assertEquals(release.length, taken);
      // One in the sink's hands, and one in each queue between.
      assertLessOrEqual(passed, taken + 3);
      release.at(-1)!();
    }
    await turn();
    await wal.close();
    release.at(-1)!();
    await turn();
    for (const one of release) one();
    await soon(piped);
    assertLessOrEqual(passed, 7);
  });
});

describe("WalReader.readable(): cancel", () => {
  onEach("frees the follower, waiting or not", async (place) => {
    await using wal = await logOf(place, 3);
    const waits = wal.readable({ from: "end" }).getReader();
    const step = waits.read();
    assertFalse(await isSettled(step));
    await waits.cancel(new Error("no more"));
    assertEquals<unknown>(await soon(step), DONE);
    const middle = wal.readable().getReader();
    await read(middle, 2);
    await middle.cancel();
    assertEquals<unknown>(await middle.read(), DONE);
    await wal.readable().cancel();
    for await (const entry of wal.readable()) {
      if (entry.index === 2) break;
    }
    await wal.append("entry 4");
    assertEquals(await readAll(wal.readable({ live: false })), known(1, 4));
  });

  onEach("leaves the caller's signal alone", async (place) => {
    await using wal = await logOf(place, 3);
    const ending = new AbortController();
    const { signal } = ending;
    const reader = wal.readable({ signal }).getReader();
    await read(reader, 1);
    await reader.cancel();
    assertFalse(signal.aborted);
    const other = wal.readable({ signal }).getReader();
    assertEquals(await read(other, 3), known(1, 3));
    ending.abort();
    const error = await assertRejects(() => other.read());
    assertEquals(error.name, "AbortError");
  });
});

describe("piping", () => {
  onEach("from one log into another keeps what entries are", async (place) => {
    await using source = await place.open();
    await source.appendBatch([
      { data: "old", term: 3, timestamp: -5n },
      { data: "", term: 9, timestampNs: 1_700_000_000_123_456_789n },
      { data: new Uint8Array([0, 255, 128]), term: 2 },
    ]);
    await source.transaction((tx) => tx.add({ data: "x".repeat(5000) }));
    for (const zeroCopy of [false, true]) {
      await using target = await memoryLog();
      const stream = source.readable({ live: false, zeroCopy });
      await soon(stream.pipeTo(target.writable()));
      const of = (wal: Wal) =>
        Array.from(wal, ({ index, term, timestampNs, data }) => ({
          index,
          term,
          timestampNs,
          data: [...data],
        }));
      assertEquals(of(target), of(source));
      assertEquals(target.state, "open");
      assertEquals(target.durableIndex, 4);
    }
  });

  onEach("into a log of each storage", async (place) => {
    await using source = await memoryLog();
    const expected = entries(300).map((text, i) => text.padEnd(i * 3, "."));
    await source.appendBatch(expected);
    await using target = await place.open({ sync: "never" });
    const stream = source.readable({ live: false });
    await soon(stream.pipeTo(target.writable({ maxUnsyncedBytes: 10_000 })));
    assertEquals(texts(target), expected);
    assertEquals(target.durableIndex, 300);
    assertEquals(target.stats().unsyncedBytes, 0);
    assertGreater(target.segments().length, 1);
  });

  onEach("live: what comes later comes, too", async (place) => {
    const source = await logOf(place, 3);
    await using target = await memoryLog();
    const piped = source.readable().pipeTo(target.writable());
    await turn();
    assertEquals(target.length, 3);
    for (const text of entries(20, 4)) await source.append(text);
    await turn();
    assertEquals(texts(target), entries(23));
    assertFalse(await isSettled(piped));
    await source.close();
    await soon(piped);
    await target.append("it is still open");
  });

  onEach("through a TransformStream", async (place) => {
    await using source = await logOf(place, 50);
    await using target = await memoryLog();
    const even = new TransformStream<Entry, EntryInput>({
      transform(entry, controller) {
        if (entry.index % 2 === 0) controller.enqueue(entry.text().slice(6));
      },
    });
    const piped = source.readable({ live: false }).pipeThrough(even)
      .pipeTo(target.writable());
    await soon(piped);
    assertEquals(
      texts(target),
      Array.from({ length: 25 }, (_, i) => `${2 * i + 2}`),
    );
  });

  onEach("through a TextDecoderStream", async (place) => {
    await using wal = await place.open();
    const text = "€uro, naïve, 漢字, 🦭 ".repeat(20);
    const bytes = new TextEncoder().encode(text);
    // Entries end in the middle of characters.
    for (let at = 0; at < bytes.length; at += 7) {
      wal.appendSync(bytes.subarray(at, at + 7));
    }
    const data = new TransformStream<Entry, Uint8Array<ArrayBuffer>>({
      transform: (entry, controller) => controller.enqueue(entry.data),
    });
    let decoded = "";
    const stream = wal.readable({ live: false }).pipeThrough(data)
      .pipeThrough(new TextDecoderStream());
    const collect = async () => {
      for await (const part of stream) decoded += part;
    };
    await soon(collect());
    assertEquals(decoded, text);
  });

  onEach("what goes wrong in the source errors the pipe", async (place) => {
    await using source = await logOf(place, 3);
    await using target = await memoryLog();
    const piped = assertOutOfRange(
      source.readable().pipeTo(target.writable()),
      "truncated",
    );
    await turn();
    await source.truncateAfter(1);
    await piped;
    assertEquals(texts(target), entries(3));
    await target.append("entry 4");
    await source.append("entry 2");
  });

  onEach("what goes wrong in the target cancels the source", async (place) => {
    await using source = await logOf(place, 9);
    await using target = await memoryLog({ maxEntryBytes: 100 });
    await source.append("x".repeat(101));
    await source.append("not reached");
    const stream = source.readable();
    const piped = stream.pipeTo(target.writable());
    await assertRejects(() => soon(piped), InvalidEntryError);
    assertEquals(texts(target), entries(9));
    assertFalse(stream.locked);
    assertEquals<unknown>(await stream.getReader().read(), DONE);
    await target.append("entry 10");
  });

  onEach("a signal ends the pipe, not the logs", async (place) => {
    await using source = await logOf(place, 3);
    await using target = await memoryLog();
    const ending = new AbortController();
    const { signal } = ending;
    const piped = source.readable().pipeTo(target.writable(), { signal });
    await turn();
    ending.abort(new Error("enough"));
    await assertRejects(() => piped, Error, "enough");
    await source.append("entry 4");
    await target.append("entry 4");
    assertEquals(texts(target), texts(source));
  });
});

describe("Wal.writable()", () => {
  /** On a disk whose syncs end only when told. */
  async function written(
    options?: WritableOptions,
    walOptions?: WalOptions,
  ): Promise<
    Place & {
      disk: SimulatedStorage;
      wal: Wal;
      writer: WritableStreamDefaultWriter<EntryInput>;
    }
  > {
    const place = simulatedPlace();
    const wal = await settled(place.disk, place.open(walOptions));
    return { ...place, wal, writer: wal.writable(options).getWriter() };
  }

  onEach("takes every kind of entry, in order", async (place) => {
    await using wal = await logOf(place, 1);
    const writer = wal.writable().getWriter();
    const bytes = new Uint8Array([1, 2, 3]);
    const writes = [
      writer.write("text"),
      writer.write(bytes),
      writer.write({ data: "fields", term: 5, timestamp: 7n }),
      writer.write(wal.get(1)),
      writer.write(""),
    ];
    await Promise.all(writes);
    await writer.close();
    assertEquals(texts(wal), [
      "entry 1",
      "text",
      "\x01\x02\x03",
      "fields",
      "entry 1",
      "",
    ]);
    assertEquals([wal.get(4).term, wal.get(4).timestampNs], [5, 7n]);
    assertEquals(wal.get(5).timestampNs, wal.get(1).timestampNs);
    assertEquals(wal.durableIndex, 6);
  });

  for (const sync of ["always", "interval", "never"] as const) {
    it(`write() settles when written, close() when durable [${sync}]`, async () => {
      const { wal, writer, disk } = await written(undefined, { sync });
      await writer.write("one");
      await writer.write("two");
      assertEquals([wal.lastIndex, wal.durableIndex], [2, 0]);
      const closed = writer.close();
      assertFalse(await isSettled(closed), "nothing is durable yet");
      await settled(disk, closed);
      assertEquals(wal.durableIndex, 2);
      assertEquals(wal.state, "open");
      assertEquals(await settled(disk, wal.append("three")), 3);
      await settled(disk, wal.close());
    });
  }

  it("a power cut after close() takes nothing", async () => {
    for (let seed = 1; seed <= 5; seed++) {
      const place = simulatedPlace(seed, { autoSettle: true, writeback: 0.2 });
      const wal = await place.open({ sync: "never" });
      const stream = new ReadableStream<EntryInput>({
        start(controller) {
          for (const text of entries(30)) {
            controller.enqueue(text.padEnd(400 * seed, "."));
          }
          controller.close();
        },
      });
      await stream.pipeTo(wal.writable());
      const expected = texts(wal);
      assertEquals(expected.length, 30);
      const found = place.disk.crash({
        pages: () => "old",
        names: () => false,
      });
      await using image = await place.open({ storage: found });
      assertEquals(texts(image), expected, `seed ${seed}`);
    }
  });

  it("write() waits while too much is not durable", async () => {
    const options = { maxUnsyncedBytes: 1000 };
    const { wal, writer, disk } = await written(options);
    await writer.write(block(400, 1));
    await writer.write(block(400, 2));
    const third = writer.write(block(400, 3));
    assertFalse(await isSettled(third), "1200 bytes are not durable");
    assertEquals(wal.lastIndex, 3, "it is written all the same");
    const fourth = writer.write(block(400, 4));
    assertFalse(await isSettled(fourth));
    assertEquals(wal.lastIndex, 3, "the fourth waits for the third");
    await settled(disk, third);
    assertGreater(wal.durableIndex, 2);
    await settled(disk, writer.close());
    assertEquals(wal.lastIndex, 4);
    await settled(disk, wal.close());
  });

  it("what others append counts, too", async () => {
    const { wal, writer, disk } = await written({ maxUnsyncedBytes: 1000 });
    wal.append(block(2000, 1), { durable: false });
    const write = writer.write("x");
    assertFalse(await isSettled(write));
    await settled(disk, write);
    assertEquals(wal.durableIndex, 2);
    await settled(disk, writer.close());
    await settled(disk, wal.close());
  });

  it("by default that is a mebibyte; 0 waits for each", async () => {
    const usual = await written(undefined, { segmentBytes: 4 * 1024 * 1024 });
    await usual.writer.write(block(600_000, 1));
    const second = usual.writer.write(block(600_000, 2));
    assertFalse(await isSettled(second));
    await settled(usual.disk, second);
    await settled(usual.disk, usual.wal.close());

    const none = await written({ maxUnsyncedBytes: 0 });
    const write = none.writer.write("x");
    assertFalse(await isSettled(write));
    await settled(none.disk, write);
    assertEquals(none.wal.durableIndex, 1);
    await settled(none.disk, none.wal.close());
  });

  onEach("never runs further ahead", async (place) => {
    await using wal = await place.open({ sync: "never" });
    const most = 20_000;
    const writer = wal.writable({ maxUnsyncedBytes: most }).getWriter();
    for (let i = 0; i < 60; i++) {
      await writer.write(block(1 + (i * 997) % 5000, i));
      assertLessOrEqual(wal.stats().unsyncedBytes, most);
    }
    await writer.close();
    assertEquals([wal.stats().unsyncedBytes, wal.durableIndex], [0, 60]);
  });

  onEach("several, and appends between", async (place) => {
    await using wal = await place.open();
    const writers = [1, 2, 3].map(() => wal.writable().getWriter());
    const writes = entries(30).map((text, i) => writers[i % 3]!.write(text));
    const appended = wal.append("between");
    await Promise.all([...writes, appended]);
    await Promise.all(writers.map((writer) => writer.close()));
    assertEquals(texts(wal).sort(), ["between", ...entries(30)].sort());
    for (const nth of [0, 1, 2]) {
      const own = entries(30).filter((_, i) => i % 3 === nth);
      assertEquals(texts(wal).filter((text) => own.includes(text)), own);
    }
  });

  onEach("abort() keeps what is written, and the log open", async (place) => {
    await using wal = await place.open();
    const writer = wal.writable().getWriter();
    await writer.write("one");
    await writer.abort(new Error("no more"));
    await assertRejects(() => writer.write("two"), Error, "no more");
    assertEquals(texts(wal), ["one"]);
    await wal.append("another");
  });
});

describe("Wal.writable(): errors", () => {
  onEach("of a wrong entry", async (place) => {
    await using wal = await place.open({ maxEntryBytes: 50 });
    const cases: [unknown, typeof EmptyDataError | ErrorConstructor][] = [
      [undefined, EmptyDataError],
      [null, EmptyDataError],
      [{ data: undefined }, EmptyDataError],
      [5, TypeError],
      [{ data: [1] }, TypeError],
      [{ data: "x", term: -1 }, RangeError],
      ["x".repeat(51), InvalidEntryError as never],
    ];
    for (const [entry, errorClass] of cases) {
      const before = wal.nextIndex;
      const writer = wal.writable().getWriter();
      await writer.write("right");
      const error = await assertRejects(
        () => writer.write(entry as EntryInput),
        errorClass as ErrorConstructor,
      );
      // A stream with an error stays so.
      for (const late of [writer.write("late"), writer.close()]) {
        await late.then(
          () => assert(false, "the stream has failed"),
          (thrown) => {
            assertInstanceOf(thrown, Error);
          },
        );
      }
      await writer.closed.then(
        () => assert(false, "the stream has failed"),
        (thrown) => assertStrictEquals(thrown, error),
      );
      assertEquals(wal.nextIndex, before + 1);
    }
    assertEquals(texts(wal), cases.map(() => "right"));
  });

  onEach("of a log that was closed", async (place) => {
    const wal = await place.open();
    const writer = wal.writable().getWriter();
    const idle = wal.writable().getWriter();
    await writer.write("one");
    await wal.close();
    await assertRejects(() => writer.write("two"), WalClosedError);
    await assertRejects(() => idle.close(), WalClosedError);
    await Promise.allSettled([writer.closed, idle.closed]);
    assertThrows(() => wal.writable(), WalClosedError);
  });

  it("of a sync that fails: at the write that waits, or at close()", async () => {
    for (const maxUnsyncedBytes of [0, undefined]) {
      const place = simulatedPlace(1, { autoSettle: true });
      place.sound = false;
      const wal = await place.open();
      const writer = wal.writable({ maxUnsyncedBytes }).getWriter();
      place.disk.failNext("syncSoon", "EIO");
      const write = writer.write("one");
      if (maxUnsyncedBytes === 0) {
        await assertRejects(() => write, WalFailedError);
      } else await write;
      await assertRejects(() => writer.close());
      await assertRejects(() => writer.closed, WalFailedError);
      assertEquals(wal.state, "failed");
      const late = wal.writable().getWriter();
      await assertRejects(() => late.write("two"), WalFailedError);
      await late.closed.catch(() => {});
      assertEquals(texts(wal), ["one"]);
      await assertRejects(() => wal.close(), WalFailedError);
    }
  });

  it("of a full disk; with room another stream goes on", async () => {
    for (const mapped of [true, false]) {
      const place = simulatedPlace(1, {
        autoSettle: true,
        mapped,
        capacityBytes: 300_000,
      });
      await using wal = await place.open();
      place.disk.plant("/log/other", block(100_000, 0));
      const writer = wal.writable().getWriter();
      let written = 0;
      const fill = async () => {
        for (;;) {
          await writer.write(block(10_000, written));
          written++;
        }
      };
      const error = await assertRejects(fill, StorageError);
      assertEquals(error.systemCode, "ENOSPC");
      await writer.closed.catch((thrown) => assertStrictEquals(thrown, error));
      assertGreater(written, 5);
      assertEquals([wal.state, wal.lastIndex], ["open", written]);
      place.disk.plant("/log/other", undefined);
      const again = wal.writable().getWriter();
      await again.write(block(10_000, 1));
      await again.close();
      assertEquals(wal.lastIndex, written + 1);
    }
  });

  onEach("wrong options are refused at the call", async (place) => {
    await using wal = await place.open();
    const cases: [unknown, ErrorConstructor, string][] = [
      [null, TypeError, "options is null, expected an object"],
      [1, TypeError, "options is 1, expected an object"],
      [{ maxBytes: 1 }, TypeError, '"maxBytes" is not an option'],
      [{ maxUnsyncedBytes: "1" }, TypeError, 'maxUnsyncedBytes is "1"'],
      [{ maxUnsyncedBytes: null }, TypeError, "maxUnsyncedBytes is null"],
      [{ maxUnsyncedBytes: 1n }, TypeError, "maxUnsyncedBytes is 1n"],
      [{ maxUnsyncedBytes: -1 }, RangeError, "maxUnsyncedBytes is -1"],
      [{ maxUnsyncedBytes: 1.5 }, RangeError, "maxUnsyncedBytes is 1.5"],
      [{ maxUnsyncedBytes: NaN }, RangeError, "maxUnsyncedBytes is NaN"],
    ];
    for (const [options, errorClass, message] of cases) {
      const call = () => wal.writable(options as WritableOptions);
      assertThrows(call, errorClass, message);
    }
    const writer = wal.writable({ maxUnsyncedBytes: undefined }).getWriter();
    await writer.write("fine");
    await writer.close();
  });
});
