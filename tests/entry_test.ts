import { Buffer } from "node:buffer";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { inspect } from "node:util";
import { type Entry, memoryStorage, openWalSync } from "../mod.ts";
import { crc32 } from "../src/crc32.ts";
import {
  assert,
  assertEquals,
  assertInstanceOf,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { RUNTIMES, THIS } from "./_storages.ts";
import { block, onEach } from "./_wal.ts";

const TIME = 1_700_000_000_123_456_789n;

/** An entry of a log in memory. */
function entryOf(
  data: string | Uint8Array,
  timestampNs = TIME,
  term = 3,
): Entry {
  using wal = openWalSync("/log", { storage: memoryStorage() });
  wal.appendSync({ data, term, timestampNs });
  return wal.get(1);
}

describe("Entry", () => {
  onEach("has every field", async (place) => {
    await using wal = await place.open({ sync: "never" });
    await wal.append({ data: "Hello", term: 3, timestampNs: TIME });
    const entry = wal.get(1);
    assertEquals(entry.index, 1);
    assertEquals(entry.term, 3);
    assertEquals(entry.timestampNs, TIME);
    assertInstanceOf(entry.timestamp, Date);
    assertEquals(entry.timestamp.toISOString(), "2023-11-14T22:13:20.123Z");
    assertEquals(entry.transactionId, undefined);
    assertEquals(entry.data, new TextEncoder().encode("Hello"));
    assertEquals(entry.checksum, crc32(entry.data));
    // The standard's check value, so that this is IEEE's CRC-32.
    await wal.append("123456789");
    assertEquals(wal.get(2).checksum, 0xcbf43926);
  });

  it("text(): UTF-8, a byte order mark included, bad bytes replaced", () => {
    assertEquals(entryOf("ü 🦭").text(), "ü 🦭");
    assertEquals(entryOf("\ufeffx").text(), "\ufeffx");
    assertEquals(entryOf("").text(), "");
    assertEquals(entryOf(new Uint8Array([0x61, 0xff])).text(), "a\ufffd");
  });

  it("json(): the data parsed", () => {
    assertEquals(entryOf('{"a":[1,2]}').json<{ a: number[] }>().a, [1, 2]);
    assertEquals(entryOf("null").json(), null);
    assertThrows(() => entryOf("{").json(), SyntaxError);
    assertThrows(() => entryOf("").json(), SyntaxError);
  });

  it("toJSON(): text if the data is UTF-8, else base64", () => {
    const json = entryOf("Hello").toJSON();
    assertEquals(json, {
      index: 1,
      term: 3,
      timestamp: "2023-11-14T22:13:20.123456789Z",
      text: "Hello",
    });
    assertEquals(entryOf("").toJSON().text, "");
    assertEquals(entryOf("\ufeffx").toJSON().text, "\ufeffx");
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
    const binary = entryOf(bytes).toJSON();
    assertEquals(Object.keys(binary), ["index", "term", "timestamp", "base64"]);
    assertEquals(Buffer.from(binary.base64!, "base64").equals(bytes), true);
    const large = entryOf(block(100_000, 0xff)).toJSON();
    assertEquals(large.base64, Buffer.alloc(100_000, 0xff).toString("base64"));
    assertEquals(
      JSON.stringify(entryOf("a\n")),
      '{"index":1,"term":3,"timestamp":"2023-11-14T22:13:20.123456789Z",' +
        '"text":"a\\n"}',
    );
  });

  it("toJSON(): times to the nanosecond, before 1970 and at the ends", () => {
    const times: [bigint, string][] = [
      [0n, "1970-01-01T00:00:00.000000000Z"],
      [1n, "1970-01-01T00:00:00.000000001Z"],
      [-1n, "1969-12-31T23:59:59.999999999Z"],
      [-1_000_000_000n, "1969-12-31T23:59:59.000000000Z"],
      [2n ** 63n - 1n, "2262-04-11T23:47:16.854775807Z"],
      [-(2n ** 63n), "1677-09-21T00:12:43.145224192Z"],
    ];
    for (const [ns, text] of times) {
      assertEquals(entryOf("x", ns).toJSON().timestamp, text);
    }
  });

  it("inspect() shows what toJSON() says", () => {
    for (
      const shown of [
        inspect(entryOf("Hello")),
        inspect([entryOf("Hello")], { depth: 3 }),
        inspect({ deep: { entry: entryOf("Hello") } }),
      ]
    ) {
      assertStringIncludes(shown, "Hello");
      assertStringIncludes(shown, "2023-11-14T22:13:20.123456789Z");
    }
    assertStringIncludes(inspect(entryOf(new Uint8Array([255]))), "/w==");
  });

  for (const name of ["deno", "bun", "node"] as const) {
    const runtime = RUNTIMES.find((one) => one.name === name);
    const skip = runtime ? false : `no WALRUS_${name.toUpperCase()}`;
    it(`console.log(entry) is readable in ${name}`, { skip }, () => {
      const { path, args } = runtime ?? THIS;
      const child = join(import.meta.dirname!, "_children", "log_entry.ts");
      const run = spawnSync(path, [...args, child], {
        encoding: "utf8",
        env: { ...process.env, NO_COLOR: "1" },
      });
      assertEquals(run.status, 0, run.stderr);
      const blocks = run.stdout.split("----\n");
      assertEquals(blocks.length, 3);
      for (const shown of blocks) {
        assertStringIncludes(shown, "index: 1");
        assertStringIncludes(shown, "term: 3");
        assertStringIncludes(shown, "2023-11-14T22:13:20.123456789Z");
        assertStringIncludes(shown, "Hello");
        assert(shown.length < 300, shown);
      }
    });
  }

  onEach(
    "entries are the caller's: nothing of the log changes",
    async (place) => {
      await using wal = await place.open({ sync: "never" });
      for (let i = 1; i <= 3; i++) await wal.append(block(i * 700, i));
      const kept = [...wal];
      for (const entry of kept) {
        entry.data.fill(0xee);
        // A small copy must not share memory that the caller can give away.
        try {
          structuredClone(entry.data.buffer, { transfer: [entry.data.buffer] });
        } catch {
          // Refused: as good.
        }
      }
      for (let i = 1; i <= 3; i++) {
        assertEquals(wal.get(i).data, block(i * 700, i));
        await wal.append(wal.get(i));
        assertEquals(wal.get(i + 3).data, block(i * 700, i));
      }
    },
  );

  onEach("entries stay as they are when the log goes on", async (place) => {
    await using wal = await place.open({ sync: "never" });
    const sizes = [0, 1, 100, 1023, 1024, 1025, 5000];
    const kept: Entry[] = [];
    for (const [i, size] of sizes.entries()) {
      await wal.append(block(size, i + 1));
      kept.push(wal.get(i + 1));
    }
    for (let i = 0; i < 200; i++) {
      await wal.append(block(1000, 0x77));
      wal.get(wal.lastIndex);
    }
    await wal.truncateAfter(0);
    await wal.append(block(60_000, 0x66));
    for (const [i, size] of sizes.entries()) {
      assertEquals(kept[i]!.data, block(size, i + 1));
    }
  });
});
