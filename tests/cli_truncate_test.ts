/**
 * `walrus truncate`, as a shell sees it.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  type Encoder,
  JsonEncoder,
  openReaderSync,
  openWal,
  openWalSync,
} from "../mod.ts";
import { assertEquals, assertStringIncludes } from "./_assert.ts";
import {
  assertOneLine,
  assertWrongUses,
  bytesOf,
  finish,
  listAll,
  NO_PERMISSIONS,
  start,
  walrus,
  WITHOUT_RIGHTS,
} from "./_cli.ts";
import { temporaryFolder } from "./_storages.ts";

const YES = "--yes";

/** A closed log of `count` lines, "1" and up. */
function makeLog(path: string, count: number): void {
  using wal = openWalSync(path, { segmentBytes: 65_536 });
  for (let n = 1; n <= count; n++) wal.appendSync(`${n}`, { durable: false });
}

function linesOf(log: string): string[] {
  using wal = openReaderSync(log);
  return Array.from(wal, (entry) => entry.text());
}

test("cli truncate: what is not understood is refused", async () => {
  using folder = temporaryFolder();
  const command = ["truncate", "a"];
  await assertWrongUses(folder.path, [
    [command, "Which entries is missing: --after N or --before N"],
    [[...command, "5", YES], 'Argument "5" is one too many'],
    [[...command, "--after", "-1", YES], 'is "-1", expected a whole number'],
    [[...command, "--before=1.5", YES], 'is "1.5", expected a whole number'],
    [[...command, "--after=9007199254740993", YES], "expected a whole number"],
    [
      [...command, "--after", "1", "--before", "2", YES],
      "Options --after and --before do not go together",
    ],
    [
      [...command, "--after", "1"],
      "there is no terminal to ask: expected --yes",
    ],
  ]);
  const help = await walrus(["help", "truncate"]);
  assertStringIncludes(help.text, "walrus truncate DIR --after N | --before N");
});

test(
  "cli truncate: drops the end, the front, and all",
  { timeout: 60_000 },
  async () => {
    using folder = temporaryFolder();
    const log = join(folder.path, "log");
    makeLog(log, 9);
    const steps: [string[], string, string[]][] = [
      [
        ["--after", "7"],
        "Removed 2 entries, 8 to 9; the log has 1 to 7.\n",
        ["1", "2", "3", "4", "5", "6", "7"],
      ],
      [
        ["--before", "2"],
        "Removed 1 entry, 1; the log has 2 to 7.\n",
        ["2", "3", "4", "5", "6", "7"],
      ],
      [
        ["--before=2"],
        "Nothing to do: there are no such entries.\n",
        ["2", "3", "4", "5", "6", "7"],
      ],
      [
        ["--after=7", "--json"],
        `{"directory":${JSON.stringify(log)},"removedCount":0,` +
        `"firstIndex":2,"lastIndex":7,"nextIndex":8}\n`,
        ["2", "3", "4", "5", "6", "7"],
      ],
      [
        ["--after", "5", "--json", "--storage", "files"],
        `{"directory":${JSON.stringify(log)},"removedCount":2,` +
        `"firstIndex":2,"lastIndex":5,"nextIndex":6}\n`,
        ["2", "3", "4", "5"],
      ],
      [
        ["--before", "6"],
        "Removed 4 entries, 2 to 5; the log has none, the next is 6.\n",
        [],
      ],
    ];
    for (const [options, expected, left] of steps) {
      const args = ["truncate", log, ...options, YES];
      const { code, text, errors } = await walrus(args);
      assertEquals([code, text, errors], [0, expected, ""], args.join(" "));
      assertEquals(linesOf(log), left, args.join(" "));
    }
    // An emptied log goes on with the next index.
    using wal = openWalSync(log);
    assertEquals([wal.length, wal.appendSync("six")], [0, 6]);
    wal.closeSync();
    const begun = await walrus(["truncate", log, "--after", "5", YES]);
    assertEquals(begun.code, 0, begun.errors);
    using again = openReaderSync(log);
    assertEquals([again.length, again.nextIndex], [0, 6]);
  },
);

test("cli truncate: out of bounds nothing changes", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const empty = join(folder.path, "empty");
  makeLog(log, 9);
  makeLog(empty, 0);
  {
    using wal = openWalSync(log);
    wal.truncateBeforeSync(4);
  }
  const before = bytesOf(folder.path);
  const refused: [string, string[], string][] = [
    [log, ["--after", "10"], "truncate after 10: the log holds 4 to 9"],
    [log, ["--after", "2"], "truncate after 2: it was removed, the log"],
    [log, ["--before", "11"], "truncate before 11: the log holds 4 to 9"],
    [empty, ["--after", "1"], "the log is empty, its next index is 1"],
    [empty, ["--before", "2"], "the log is empty, its next index is 1"],
  ];
  await Promise.all(refused.map(async ([path, options, message]) => {
    const args = ["truncate", path, ...options, YES];
    const { code, text, errors } = await walrus(args);
    assertEquals([code, text], [1, ""], options.join(" "));
    assertOneLine(errors, message);
    assertStringIncludes(errors, "[INDEX_OUT_OF_RANGE]");
  }));
  for (const options of [["--after", "0"], ["--before", "1"]]) {
    const { code, text } = await walrus(["truncate", empty, ...options, YES]);
    assertEquals([code, text.slice(0, 13)], [0, "Nothing to do"]);
  }
  assertEquals(bytesOf(folder.path), before);
});

test("cli truncate: a log in use, or none, is left alone", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const missing = join(folder.path, "missing");
  makeLog(log, 3);
  using wal = openWalSync(log);
  for (const options of [["--after", "1"], ["--before", "3"]]) {
    const locked = await walrus(["truncate", log, ...options, YES]);
    assertEquals([locked.code, locked.text], [3, ""]);
    assertOneLine(locked.errors, "[LOCKED]");
    const none = await walrus(["truncate", missing, ...options, YES]);
    assertEquals([none.code, none.text], [3, ""]);
    assertOneLine(none.errors, "[SEGMENT_NOT_FOUND]");
  }
  assertEquals(wal.length, 3);
  assertEquals(listAll(folder.path).includes("missing"), false);
});

test("cli truncate: consumers move back, damage is refused", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  {
    await using wal = await openWal(log, { segmentBytes: 65_536 });
    await wal.appendBatch(["1", "2", "3", "4", "5"]);
    await using worker = await wal.consumer("worker");
    await worker.ack(5);
  }
  assertEquals((await walrus(["truncate", log, "--after", "2", YES])).code, 0);
  {
    using wal = openWalSync(log);
    const [worker] = wal.consumers();
    assertEquals(worker, { name: "worker", position: 2, lag: 0 });
  }

  fs.writeFileSync(join(log, "manifest"), "no manifest");
  const before = bytesOf(log);
  const damaged = await walrus(["truncate", log, "--after", "1", YES]);
  assertEquals([damaged.code, damaged.text], [1, ""]);
  assertOneLine(damaged.errors, "[CORRUPTED]; see walrus verify");
  assertEquals(bytesOf(log), before);
});

test("cli truncate: any format, and a torn end is told", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const json = new JsonEncoder();
  const format: Encoder = {
    name: "mine",
    byteLength: (record) => json.byteLength(record),
    encode: (record) => json.encode(record),
    encodeInto: (record, target) => json.encodeInto(record, target),
    decode: (bytes) => json.decode(bytes),
    decodeView: (bytes) => json.decodeView(bytes),
  };
  const copy = join(folder.path, "copy");
  {
    using wal = openWalSync(log, { segmentBytes: 65_536, format });
    for (let n = 1; n <= 4; n++) wal.appendSync(`${n}`);
    fs.cpSync(log, copy, { recursive: true });
  }
  const name = fs.readdirSync(copy).find((one) => one.endsWith(".wal"))!;
  const path = join(copy, name);
  const bytes = fs.readFileSync(path);
  let end = bytes.length;
  while (bytes[end - 1] === 0) end--;
  bytes[end + 100] = 1;
  fs.writeFileSync(path, bytes);
  const done = await walrus(["truncate", copy, "--after", "2", YES]);
  assertEquals(done.code, 0, done.errors);
  assertOneLine(done.errors, "of unfinished writes");
  using again = openWalSync(copy, { format });
  assertEquals(Array.from(again, (entry) => entry.text()), ["1", "2"]);
});

test("cli truncate: no permission is one clear line", {
  skip: NO_PERMISSIONS,
}, async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  makeLog(log, 3);
  fs.chmodSync(log, 0o500);
  try {
    const args = ["truncate", log, "--after", "1", YES];
    const { code, errors } = await finish(start(args, WITHOUT_RIGHTS), "");
    assertEquals(code, 3, errors);
    assertOneLine(errors, /permission denied.*\[STORAGE\]/);
  } finally {
    fs.chmodSync(log, 0o700);
  }
  assertEquals(linesOf(log).length, 3);
});
