/**
 * The live page as bytes, and as readers see it: golden bytes, round trips,
 * every flipped bit, cells that are half written. docs/format.md §10.
 *
 * @module
 */
import { describe, it } from "node:test";
import { viewOf } from "../src/fields.ts";
import { LIVE, LIVE_BYTES, LIVE_NAME } from "../src/format.ts";
import type { Window } from "../src/frame.ts";
import {
  decodeChain,
  decodeDurable,
  decodeEnd,
  encodeChain,
  encodeDurable,
  endCheck,
  type LiveChain,
} from "../src/live_page.ts";
import { LiveView } from "../src/live_view.ts";
import type { StorageDirectory, StorageFile } from "../src/storage.ts";
import { memoryStorage } from "../ffi/mod.ts";
import { Random } from "../testing/mod.ts";
import { assert, assertEquals, assertExists } from "./_assert.ts";
import { seedOf } from "./_budget.ts";
import { checksum, setU32, setU64 } from "./_log_bytes.ts";

const SEED = seedOf(20261123);
const MODES = { create: true, directoryMode: 0o750, fileMode: 0o640 };

/** Made by another program, from the document. */
const GOLDEN = `
  89 57 41 4c 4c 49 56 0a 01 00 00 00 00 10 00 00
  00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f
  10 11 12 13 14 15 16 17 18 19 1a 1b 1c 1d 1e 1f
  a0 a1 a2 a3 a4 a5 a6 a7 a8 a9 aa ab ac ad ae af
  06 00 00 00 01 00 00 00 05 00 00 00 01 00 00 00
  07 00 00 00 00 00 00 00 ff ff ef ff ff ff 1f 00
  ef be ad de 70 a3 ba 80 00 00 00 00 00 00 00 00
  00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
  88 10 00 00 77 ef ff ff 09 00 00 00 02 00 00 00
  94 0c 91 c3 00 00 00 00 00 00 00 00 00 00 00 00`;

const CHAIN: LiveChain = {
  logId: "000102030405060708090a0b0c0d0e0f",
  boot: "101112131415161718191a1b1c1d1e1f",
  session: "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
  state: 1,
  firstIndex: 2 ** 32 + 5,
  generation: 7,
  number: 2 ** 53 - 1 - 2 ** 20,
  salt: 0xdeadbeef,
};
const END = 4232;
const DURABLE = 2 ** 33 + 9;

function newPage(): Window {
  const bytes = new Uint8Array(LIVE_BYTES);
  return { bytes, view: viewOf(bytes) };
}

function encodeEnd(page: Window, end: number): void {
  setU32(page.bytes, LIVE.end, end);
  setU32(page.bytes, LIVE.endCheck, endCheck(end));
}

/** The page of the golden bytes. */
function fullPage(chain: LiveChain = CHAIN, sequence = 6): Window {
  const page = newPage();
  setU32(page.bytes, LIVE.sequence, sequence);
  encodeChain(page, chain);
  encodeEnd(page, END);
  encodeDurable(page.view, DURABLE);
  return page;
}

/** Makes the checksum right for what is in the page, whatever it is. */
function seal({ bytes }: Window): void {
  const before = checksum(bytes.subarray(0, 64));
  setU32(bytes, 100, checksum(bytes.subarray(68, 100), before));
}

function randomChain(random: Random): LiveChain {
  const number = () =>
    Math.floor(2 ** (random.int(5300) / 100)) - random.int(2);
  return {
    logId: random.hex(32),
    boot: random.hex(32),
    session: random.hex(32),
    state: random.int(2),
    firstIndex: Math.max(1, number()),
    generation: Math.max(0, number()),
    number: Math.max(1, number()),
    salt: random.uint32(),
  };
}

describe("the live page: the chain", () => {
  it("[F61] golden bytes", () => {
    const golden = newPage();
    golden.bytes.set(
      GOLDEN.trim().split(/\s+/).map((one) => parseInt(one, 16)),
    );
    assertEquals(fullPage().bytes, golden.bytes);
    assertEquals(decodeChain(golden), CHAIN);
    assertEquals(decodeEnd(golden.view), END);
    assertEquals(decodeDurable(golden.view), DURABLE);
  });

  it("what is encoded is decoded", () => {
    const random = new Random(SEED, 1);
    const page = newPage();
    for (let i = 0; i < 2000; i++) {
      const chain = randomChain(random);
      encodeChain(page, chain);
      assertEquals(decodeChain(page), chain);
    }
  });

  it("an unknown boot is zeros, whatever was there", () => {
    const page = fullPage();
    encodeChain(page, { ...CHAIN, boot: "" });
    assertEquals(decodeChain(page)?.boot, "0".repeat(32));
  });

  it("[F61] every flipped bit of what is covered is refused", () => {
    const page = fullPage();
    const covered = (at: number) => at < 64 || (at >= 68 && at < 104);
    for (let bit = 0; bit < 8 * 256; bit++) {
      const at = bit >> 3;
      page.bytes[at]! ^= 1 << (bit & 7);
      const found = decodeChain(page);
      assertEquals(found, covered(at) ? undefined : CHAIN, `bit ${bit}`);
      page.bytes[at]! ^= 1 << (bit & 7);
    }
    assertEquals(decodeChain(page), CHAIN);
  });

  it("[F61] fields out of their bounds are refused, though the sum is right", () => {
    const cases: [string, (bytes: Uint8Array<ArrayBuffer>) => void][] = [
      ["magic", (bytes) => bytes[1] = 0x58],
      ["version 0", (bytes) => setU32(bytes, 8, 0)],
      ["version 2", (bytes) => setU32(bytes, 8, 2)],
      ["size", (bytes) => setU32(bytes, 12, 8192)],
      ["state", (bytes) => setU32(bytes, 68, 2)],
      ["first index 0", (bytes) => setU64(bytes, 72, 0)],
      ["first index", (bytes) => setU64(bytes, 72, 2n ** 53n + 1n)],
      ["generation", (bytes) => setU64(bytes, 80, 2n ** 53n)],
      ["number 0", (bytes) => setU64(bytes, 88, 0)],
      ["number", (bytes) => setU64(bytes, 88, 2n ** 63n)],
    ];
    for (const [what, change] of cases) {
      const page = fullPage();
      change(page.bytes);
      seal(page);
      assertEquals(decodeChain(page), undefined, what);
    }
    const page = fullPage();
    seal(page);
    assertEquals(decodeChain(page), CHAIN, "nothing was changed");
  });

  it("zeros and an empty page are none", () => {
    assertEquals(decodeChain(newPage()), undefined);
    assertEquals(decodeEnd(newPage().view), undefined);
    assertEquals(decodeDurable(newPage().view), undefined);
  });
});

describe("the live page: the cells", () => {
  it("[F63] ends without their check, or impossible, are refused", () => {
    const { bytes, view } = newPage();
    const ends = [4096, 4104, 4232, 65536, 2 ** 24, 2 ** 30];
    for (const end of ends) {
      for (const other of ends) {
        setU32(bytes, LIVE.end, end);
        setU32(bytes, LIVE.endCheck, ~other >>> 0);
        assertEquals(decodeEnd(view), end === other ? end : undefined);
      }
    }
    for (const end of [0, 8, 4088, 4097, 4100, 2 ** 30 + 8, 2 ** 32 - 8]) {
      setU32(bytes, LIVE.end, end);
      setU32(bytes, LIVE.endCheck, ~end >>> 0);
      assertEquals(decodeEnd(view), undefined, `${end}`);
    }
  });

  it("[F63] every flipped bit of a cell is refused", () => {
    const { bytes, view } = fullPage();
    for (let bit = 8 * LIVE.end; bit < 8 * LIVE.durable + 96; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const inEnd = bit < 8 * LIVE.durable;
      assertEquals(decodeEnd(view), inEnd ? undefined : END, `${bit}`);
      const durable = decodeDurable(view);
      assertEquals(durable, inEnd ? DURABLE : undefined, `${bit}`);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
  });

  it("[F63] words of two durable entries never make a third", () => {
    const random = new Random(SEED, 2);
    const cells = (index: number) => {
      const page = newPage();
      encodeDurable(page.view, index);
      return page.bytes.slice(LIVE.durable, LIVE.durable + 12);
    };
    let torn = 0;
    for (let i = 0; i < 5000; i++) {
      const one = Math.floor(2 ** (random.int(5300) / 100));
      // Often just the next one, also where the high half changes.
      const near = random.chance(0.5);
      const from = near && random.chance(0.5) ? 2 ** 32 * (1 + i) - 1 : one;
      const to = near ? from + 1 + random.int(3) : randomChain(random).number;
      const [a, b] = [cells(from), cells(to)];
      for (let mix = 0; mix < 8; mix++) {
        const page = newPage();
        for (let word = 0; word < 3; word++) {
          const source = (mix >> word) % 2 === 0 ? a : b;
          const at = 4 * word;
          page.bytes.set(source.subarray(at, at + 4), LIVE.durable + at);
        }
        const found = decodeDurable(page.view);
        const known = found === undefined || found === from || found === to;
        assert(known, `${found} of ${from} and ${to}, mix ${mix}`);
        if (found === undefined) torn++;
      }
      assertEquals(decodeDurable(viewOfCells(a)), from);
    }
    assert(torn > 5000, `${torn} mixes were refused`);
  });

  function viewOfCells(cells: Uint8Array<ArrayBuffer>): DataView {
    const page = newPage();
    page.bytes.set(cells, LIVE.durable);
    return page.view;
  }
});

/** A page in a folder, and a view of it. */
class Scene implements Disposable {
  readonly folder: StorageDirectory;
  readonly view: LiveView;
  readonly page: Window;
  /** Called once, after so many reads of the page. */
  between: { reads: number; act: () => void } | undefined;
  readonly #file: StorageFile | undefined;
  #nowNs = 0;

  constructor(page: Window | undefined, size = LIVE_BYTES) {
    const storage = memoryStorage();
    this.folder = storage.openDirectory("log", MODES)!;
    this.page = page ?? newPage();
    this.#file = page && this.folder.create(LIVE_NAME, size);
    const clock = { ...storage.clock, monotonicNs: () => this.#nowNs };
    this.view = new LiveView(this.#watched(), clock);
    this.write();
  }

  /** Puts the page into the file, where it fits. */
  write(): void {
    const bytes = this.page.bytes.slice(0, this.#file?.bytes);
    this.#file?.writeAt(bytes, 0);
  }

  /** Changes a u32 of the page and of the file. */
  poke(offset: number, value: number): void {
    setU32(this.page.bytes, offset, value);
    this.write();
  }

  /** Time goes by. */
  wait(ms: number): void {
    this.#nowNs += ms * 1e6;
  }

  /** The folder, whose files can be changed between two reads of them. */
  #watched(): StorageDirectory {
    return new Proxy(this.folder, {
      get: (folder, key) => {
        if (key !== "open") return Reflect.get(folder, key, folder);
        return (name: string, access: "read") => {
          const file = folder.open(name, access);
          return file && this.#slow(file);
        };
      },
    });
  }

  #slow(file: StorageFile): StorageFile {
    return new Proxy(file, {
      get: (target, key) => {
        if (key !== "readAt") {
          const found = Reflect.get(target, key, target);
          return typeof found === "function" ? found.bind(target) : found;
        }
        return (bytes: Uint8Array<ArrayBuffer>, offset: number) => {
          const read = target.readAt(bytes, offset);
          if (this.between !== undefined && --this.between.reads === 0) {
            const { act } = this.between;
            this.between = undefined;
            act();
          }
          return read;
        };
      },
    });
  }

  [Symbol.dispose](): void {
    this.view.close();
    this.#file?.close();
    this.folder.close();
  }
}

describe("LiveView", () => {
  it("shows the page, and what has changed since", () => {
    using scene = new Scene(fullPage());
    const { view } = scene;
    const whole = { chain: CHAIN, end: END, durableIndex: DURABLE };
    assertEquals(view.look(), whole);
    assert(!view.changed() && !view.changing);
    encodeEnd(scene.page, 4240);
    scene.write();
    assert(view.changed());
    assertEquals(view.look(), { ...whole, end: 4240 });
    assert(!view.changed());
    encodeDurable(scene.page.view, 10);
    scene.write();
    assert(view.changed());
    assertEquals(view.look()?.durableIndex, 10);
    const chain = { ...CHAIN, generation: 8 };
    encodeChain(scene.page, chain);
    scene.poke(LIVE.sequence, 8);
    assert(view.changed());
    assertEquals(view.look()?.chain, chain);
    assert(!view.changed());
  });

  it("[F62] believes nothing while the sequence is odd", () => {
    using scene = new Scene(fullPage());
    const { view } = scene;
    assertExists(view.look());
    scene.poke(LIVE.sequence, 7);
    assert(view.changed() && view.changing);
    assertEquals(view.look(), undefined);
    assert(view.changing);
    const chain = { ...CHAIN, number: 9 };
    encodeChain(scene.page, chain);
    scene.write();
    assertEquals(view.look(), undefined);
    scene.poke(LIVE.sequence, 8);
    assert(view.changed() && !view.changing);
    assertEquals(view.look()?.chain, chain);
  });

  it("[F62] believes nothing that changed while it was read", () => {
    for (const first of [true, false]) {
      using scene = new Scene(fullPage());
      const { view } = scene;
      if (!first) assertExists(view.look());
      const chain = { ...CHAIN, number: 9 };
      const act = () => {
        encodeChain(scene.page, chain);
        scene.poke(LIVE.sequence, 8);
      };
      scene.between = { reads: 1, act };
      assertEquals(view.look(), undefined);
      assertEquals(scene.between, undefined, "it was changed in between");
      scene.wait(1000);
      assert(view.changed());
      assertEquals(view.look()?.chain, chain);
    }
  });

  it("[F62] a read that met two pages is made again", () => {
    using scene = new Scene(fullPage());
    const { view, page } = scene;
    assertExists(view.look());
    const before = page.bytes.slice(0, LIVE.sequence);
    const chain = { ...CHAIN, session: "5".repeat(32), number: 9 };
    encodeChain(page, chain);
    setU32(page.bytes, LIVE.sequence, 8);
    const after = page.bytes.slice(0, LIVE.sequence);
    // The read had passed the first fields when the writer changed all.
    page.bytes.set(before);
    scene.write();
    const act = () => {
      page.bytes.set(after);
      scene.write();
    };
    scene.between = { reads: 1, act };
    assertEquals(view.look()?.chain, chain);
    assertEquals(scene.between, undefined, "it was changed in between");
    assert(!view.changed());
  });

  it("[F63] a cell that is half written counts as before", () => {
    using scene = new Scene(fullPage());
    const { view } = scene;
    assertExists(view.look());
    scene.poke(LIVE.endCheck, endCheck(4240));
    scene.poke(LIVE.durable, 10);
    const seen = view.look();
    assertEquals([seen?.end, seen?.durableIndex], [END, DURABLE]);
  });

  it("[F63] a cell that was seen half written is looked at again", () => {
    using scene = new Scene(fullPage());
    const { view, page } = scene;
    assertExists(view.look());
    scene.poke(LIVE.endCheck, endCheck(4240));
    assertEquals(view.look()?.end, END);
    scene.poke(LIVE.end, 4240);
    assert(view.changed(), "the end was not seen whole");
    assertEquals(view.look()?.end, 4240);
    encodeDurable(page.view, 10);
    const check = page.view.getUint32(LIVE.durableCheck, true);
    scene.poke(LIVE.durableCheck, 0);
    assertEquals(view.look()?.durableIndex, DURABLE);
    scene.poke(LIVE.durableCheck, check);
    assert(view.changed(), "the durable entry was not seen whole");
    assertEquals(view.look()?.durableIndex, 10);
  });

  it("[F63] a new page whose cells are half written is not believed", () => {
    for (const at of [LIVE.endCheck, LIVE.durableCheck]) {
      using scene = new Scene(fullPage());
      const { view, page } = scene;
      const sound = page.view.getUint32(at, true);
      scene.poke(at, sound ^ 1);
      assertEquals(view.look(), undefined);
      scene.poke(at, sound);
      scene.wait(1000);
      assertExists(view.look());
    }
  });

  it("[F60] what is missing, odd or of another size is no page", () => {
    for (const size of [undefined, 0, 192, 4095, 4097, 8192]) {
      using scene = new Scene(
        size === undefined ? undefined : fullPage(),
        size,
      );
      assertEquals(scene.view.look(), undefined, `${size} bytes`);
      assert(!scene.view.changed() && !scene.view.changing);
    }
  });

  it("[F60] a page that comes later is found, not asked for all the time", () => {
    using scene = new Scene(undefined);
    const { view, folder } = scene;
    assertEquals(view.look(), undefined);
    const file = folder.create(LIVE_NAME, LIVE_BYTES);
    file.writeAt(fullPage().bytes, 0);
    assertEquals(view.look(), undefined, "it was looked for a moment ago");
    scene.wait(1000);
    assert(view.changed());
    assertEquals(view.look()?.chain, CHAIN);
    file.close();
  });
});
