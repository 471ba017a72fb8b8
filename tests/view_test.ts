import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  ChecksumMismatchError,
  type Entry,
  JsonEncoder,
  type Wal,
} from "../mod.ts";
import {
  assert,
  assertEquals,
  assertFalse,
  assertGreater,
  assertThrows,
} from "./_assert.ts";
import { HAS_FFI, STORAGES, temporaryFolder } from "./_storages.ts";
import { makePlace, onEach, type Place } from "./_wal.ts";

const MAPPED = STORAGES.filter((one) => one.kind === "mapped");
const text = (index: number) => `entry ${index} `.padEnd(100, "x");

/** A log of `count` entries over several small segments. */
async function filled(place: Place, count = 1500): Promise<Wal> {
  // Twice the smallest: small copies share memory of that size.
  const wal = await place.open({ sync: "never", segmentBytes: 131_072 });
  for (let index = 1; index <= count; index++) wal.appendSync(text(index));
  return wal;
}

/** The mappings of a folder's files in this process. */
function mappingsOf(folder: string): number {
  const maps = readFileSync("/proc/self/maps", "utf8").split("\n");
  return maps.filter((line) => line.includes(folder)).length;
}

async function collected(until: () => boolean): Promise<boolean> {
  const { gc } = globalThis as { gc?: () => void };
  const bun = (globalThis as { Bun?: { gc(force: boolean): void } }).Bun;
  for (let i = 0; i < 100 && !until(); i++) {
    gc?.();
    bun?.gc(true);
    // Without a hook memory has to be asked for until the collector comes.
    if (gc === undefined && bun === undefined) new Uint8Array(2 ** 24).fill(1);
    await sleep(10);
  }
  return until();
}

async function hold100000(place: Place): Promise<void> {
  const wal = await filled(place, 3000);
  let held: Entry[] = [];
  for (let round = 0; round < 34; round++) {
    held = [...wal.entries({ zeroCopy: true })];
    assertEquals(held.length, 3000);
  }
  assertGreater(mappingsOf(place.path), 0);
  await wal.close();
  assert(held.every((view) => view.text() === text(view.index)));
}

describe("Wal.view()", () => {
  onEach("gives what get gives, on every storage", async (place) => {
    await using wal = await filled(place, 700);
    await wal.transaction((tx) => tx.add({ data: "in one", term: 4 }));
    for (const index of [1, 2, 350, 699, 700, 701]) {
      const [view, copy] = [wal.view(index), wal.get(index)];
      assertEquals(view.text(), copy.text());
      assertEquals(
        [view.index, view.term, view.timestampNs, view.transactionId],
        [copy.index, copy.term, copy.timestampNs, copy.transactionId],
      );
      assertEquals(view.checksum, copy.checksum);
    }
    assertThrows(() => wal.view(702), Error, "the log holds 1 to 701");
    assertThrows(() => wal.view("1" as unknown as number), TypeError);
  });

  onEach("writing into it changes nothing else", async (place) => {
    await using wal = await filled(place);
    const sealed = wal.view(10);
    const growing = wal.view(1500);
    const neighbour = wal.view(11);
    sealed.data.fill(0x41);
    growing.data.fill(0x42);
    assertEquals(wal.get(10).text(), text(10));
    assertEquals(wal.get(1500).text(), text(1500));
    assertEquals(wal.view(10).text(), text(10));
    assertEquals(wal.view(1500).text(), text(1500));
    assertEquals(wal.view(11).text(), text(11));
    assertEquals(neighbour.text(), text(11));
    assertEquals(sealed.text(), "A".repeat(100));
    wal.appendSync(text(1501));
    assertEquals(wal.view(1501).text(), text(1501));
    assertEquals([...wal.entries({ zeroCopy: true })].length, 1501);
  });

  onEach("writing over all memory of a segment hurts nobody", async (place) => {
    await using wal = await filled(place);
    for (let i = 0; i < 3; i++) {
      new Uint8Array(wal.view(1 + 400 * i).data.buffer).fill(0xff);
      for (let index = 1; index <= 1500; index += 7) {
        assertEquals(wal.view(index).text(), text(index));
        assertEquals(wal.get(index).text(), text(index));
      }
    }
  });

  onEach("stays as it is whatever becomes of the log", async (place) => {
    const wal = await filled(place);
    const views = [...wal.entries({ zeroCopy: true })];
    const check = () => {
      for (const view of views) assertEquals(view.text(), text(view.index));
    };
    await wal.truncateAfter(1200);
    check();
    for (let i = 0; i < 2000; i++) wal.appendSync("another history");
    check();
    await wal.truncateBefore(1100);
    check();
    await wal.reset(5);
    wal.appendSync("once more");
    check();
    await wal.rotate();
    await wal.close();
    check();
    await using again = await place.open();
    assertEquals(again.get(5).text(), "once more");
    check();
  });

  onEach("damaged bytes are refused, with verifyReads", async (place) => {
    {
      await using _ = await filled(place, 700);
    }
    const wal = await place.open();
    const [first] = wal.segments();
    const { path } = first!;
    const name = path.slice(path.lastIndexOf("/") + 1);
    await wal.close();
    const folder = place.storage.openDirectory(place.path, {
      create: false,
      directoryMode: 0o700,
      fileMode: 0o600,
    })!;
    const file = folder.open(name, "write")!;
    file.writeAt(new TextEncoder().encode("damage"), 4096 + 60);
    file.close();
    folder.close();
    place.sound = false;
    await using damaged = await place.open();
    assertThrows(() => damaged.view(1), ChecksumMismatchError);
    assertThrows(
      () => [...damaged.entries({ zeroCopy: true })],
      ChecksumMismatchError,
    );
    assertEquals(damaged.view(2).text(), text(2));
  });

  it("with other formats it is a copy", async () => {
    for (const one of STORAGES) {
      using folder = temporaryFolder();
      const place = makePlace(one.make(), one, join(folder.path, "log"));
      await using wal = await place.open({ format: "json" });
      wal.appendSync("x".repeat(2000));
      const view = wal.view(1);
      assertEquals(view.data.buffer.byteLength, 2000);
      assertEquals(new JsonEncoder().name, "json");
    }
  });

  onEach(
    "unchecked, a page that was written hides no other entry",
    async (place) => {
      await using wal = await place.open({ verifyReads: false });
      wal.appendSync("first");
      wal.view(1).data[0] = 88;
      wal.appendSync({ data: "second", term: 7 });
      const second = wal.view(2);
      assertEquals([second.text(), second.term], ["second", 7]);
      assertEquals(wal.get(2).text(), "second");
    },
  );

  onEach("it lies in the file: no copy is made", async (place) => {
    await using wal = await filled(place, 10);
    const [one, two] = [wal.view(1), wal.view(2)];
    assertEquals(one.data.buffer, two.data.buffer);
    assertEquals(one.data.buffer.byteLength, 131_072);
  }, MAPPED);
});

describe("zeroCopy", () => {
  onEach("of the log, of ranges and of iteration", async (place) => {
    {
      await using _ = await filled(place, 300);
    }
    await using wal = await place.open({ zeroCopy: true });
    const isView = (entry: Entry) => entry.data.buffer.byteLength === 131_072;
    const expected = place.kind === "mapped";
    assertEquals(isView(wal.get(1)), expected);
    assertEquals(isView(wal.at(2)!), expected);
    assertEquals(wal.getRange(1, 9).every(isView), expected);
    assertEquals([...wal].every(isView), expected);
    const no = { zeroCopy: false };
    assertFalse(wal.getRange(1, 9, no).some(isView));
    assertFalse([...wal.entries(no)].some(isView));
    assertEquals(wal.getRange(1, 9, no).length, 9);
  });

  onEach("wrong values are TypeErrors", async (place) => {
    await using wal = await filled(place, 3);
    const wrong = { zeroCopy: 1 as unknown as boolean };
    assertThrows(() => wal.entries(wrong), TypeError, "zeroCopy is 1");
    assertThrows(() => wal.getRange(1, 2, wrong), TypeError, "zeroCopy is 1");
    assertThrows(
      () => wal.getRange(1, 2, { copy: true } as object),
      TypeError,
      '"copy" is not an option',
    );
  });
});

describe("views and what programs do with them", () => {
  onEach("transfers cannot hurt", async (place) => {
    await using wal = await filled(place, 300);
    const tries: ((data: Uint8Array<ArrayBuffer>) => unknown)[] = [
      (data) => structuredClone(data, { transfer: [data.buffer] }),
      (data) => data.buffer.transfer(),
      (data) => data.buffer.transfer(0),
      (data) => {
        const { port1, port2 } = new MessageChannel();
        try {
          port1.postMessage(data, [data.buffer]);
        } finally {
          port1.close();
          port2.close();
        }
      },
      (data) =>
        new ReadableStream({
          type: "bytes",
          start: (controller) => controller.enqueue(data),
        }),
    ];
    for (const attempt of tries) {
      for (const index of [1, 300]) {
        try {
          attempt(wal.view(index).data);
        } catch {
          // Refused is as good.
        }
        for (let i = 1; i <= 300; i += 13) {
          assertEquals(wal.view(i).text(), text(i));
          assertEquals(wal.get(i).text(), text(i));
        }
      }
    }
    wal.appendSync(text(301));
    assertEquals(wal.view(301).text(), text(301));
  });

  onEach("clones are whole", async (place) => {
    await using wal = await filled(place, 300);
    assertEquals(structuredClone(wal.view(7).data), wal.get(7).data);
    const stream = new Blob([wal.view(8).data]).stream();
    assertEquals(await new Response(stream).text(), text(8));
  });

  onEach("100 000 of them leave no mapping behind", async (place) => {
    await hold100000(place);
    // Bun's collector also looks at the stack: let other calls go over it.
    await collected(() => mappingsOf(place.path) === 0);
    assertEquals(mappingsOf(place.path), 0);
  }, MAPPED);

  it("the process ends while views are held", { skip: !HAS_FFI }, () => {
    using folder = temporaryFolder();
    const program = join(folder.path, "program.ts");
    const mod = new URL("../mod.ts", import.meta.url).href;
    const code = `import { openWalSync } from "${mod}";
const wal = openWalSync(${JSON.stringify(join(folder.path, "log"))});
wal.appendSync("held");
globalThis.view = wal.view(1);
wal.truncateAfterSync(0);
wal.closeSync();
console.log(globalThis.view.text());`;
    const script = `await import("data:text/javascript,${
      encodeURIComponent(code)
    }")`;
    assertEquals(program.endsWith(".ts"), true);
    const args = "Deno" in globalThis
      ? ["eval", script]
      : ["--eval", code.replaceAll("\n", " ")];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, {
      encoding: "utf8",
    });
    assertEquals([status, stdout.trim()], [0, "held"], stderr);
  });
});
