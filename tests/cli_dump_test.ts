/**
 * `walrus dump` by time and term, and with what it follows: as a shell sees it.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Arguments } from "../cli/arguments.ts";
import { Threshold, THRESHOLD_OPTIONS } from "../cli/threshold.ts";
import { parseTime } from "../cli/time.ts";
import { memoryStorage, openWalSync } from "../mod.ts";
import { assertEquals } from "./_assert.ts";
import { assertOneLine, assertWrongUses, walrus } from "./_cli.ts";
import { temporaryFolder } from "./_storages.ts";

const START = 1_700_000_000_000_000_000n;
const SECOND = 1_000_000_000n;

/**
 * Twelve entries, a second apart, each with a term of its own but for those
 * of 5 and 6, where both fall.
 */
function makeLog(path: string): void {
  using wal = openWalSync(path, { segmentBytes: 65_536 });
  for (let n = 1; n <= 12; n++) {
    const step = n === 5 || n === 6 ? 1 : n;
    const timestampNs = START + BigInt(step) * SECOND;
    wal.appendSync({ data: `${n}`, term: step, timestampNs });
    if (n === 4) wal.rotateSync();
  }
}

test("cli dump: what is not understood is refused", async () => {
  using folder = temporaryFolder();
  await assertWrongUses(folder.path, [
    [["dump", "a", "--since", "noon"], 'is "noon", expected a time as'],
    [["dump", "a", "--since=2026-02-29"], 'is "2026-02-29", expected a time'],
    [["dump", "a", "--term=x"], 'Option --term is "x", expected a whole'],
    [["dump", "a", "--from=x"], 'is "x", expected a whole number from 0 on, '],
    [
      ["dump", "a", "--follow", "--reverse"],
      "Options --follow and --reverse do not go together",
    ],
    [
      ["dump", "a", "--salvage", "--follow"],
      "Options --follow and --salvage do not go together",
    ],
  ]);
});

test("cli dump: begins by time and by term", { timeout: 60_000 }, async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  makeLog(log);
  const at = (n: number) => `${START + BigInt(n) * SECOND}`;
  const iso = (n: number) =>
    new Date(Number(START / 1_000_000n) + n * 1000).toISOString();
  const lines = (from: number, to = 12) =>
    Array.from({ length: to - from + 1 }, (_, i) => `${from + i}\n`).join("");
  const cases: [string[], string][] = [
    [["--since", at(7)], lines(7)],
    [["--since", `${START + 7n * SECOND + 1n}`], lines(8)],
    [["--since", iso(4)], lines(4)],
    [["--since", iso(4).replace("Z", "000001Z")], lines(7)],
    [["--since", at(13)], ""],
    [["--since=-5"], lines(1)],
    [["--term", "3"], lines(3)],
    [["--term", "5"], lines(7)],
    [["--term", "13"], ""],
    [["--term", "0"], lines(1)],
    [["--term", "2", "--since", at(4)], lines(4)],
    [["--term", "9", "--since", at(4), "--from", "2"], lines(9)],
    [["--term", "2", "--from", "11"], lines(11)],
    [["--since", at(4), "--to", "8", "--limit", "2"], lines(4, 5)],
    [["--term", "11", "--reverse"], "12\n11\n"],
    [["--from", "start", "--limit", "1"], "1\n"],
    [["--from", "end"], ""],
    [["--since", at(12), "--salvage"], "12\n"],
    [["--term", "12", "--storage", "files"], "12\n"],
  ];
  await Promise.all(cases.map(async ([options, expected]) => {
    const { code, text, errors } = await walrus(["dump", log, ...options]);
    assertEquals([code, text, errors], [0, expected, ""], options.join(" "));
  }));
  const json = await walrus(["dump", log, "--since", at(12), "--json"]);
  const { index, timestamp } = JSON.parse(json.text);
  assertEquals(index, 12);
  // What is printed is taken.
  const again = await walrus(["dump", log, "--since", timestamp]);
  assertEquals(again.text, "12\n");
});

test("cli dump --salvage: begins by term behind what is lost", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  makeLog(log);
  const [first] = fs.readdirSync(log).filter((name) => name.endsWith(".wal"))
    .sort();
  const path = join(log, first!);
  const bytes = fs.readFileSync(path);
  bytes[bytes.indexOf("3\0\0\0\0", 4096)]! ^= 1;
  fs.writeFileSync(path, bytes);
  const options = ["--salvage", "--term", "4", "--limit", "2"];
  const { code, text, errors } = await walrus(["dump", log, ...options]);
  assertEquals([code, text, errors], [0, "4\n5\n", ""]);
  const whole = await walrus(["dump", log, "--salvage", "--term", "2"]);
  assertEquals(whole.code, 1);
  assertEquals(whole.text, "2\n4\n5\n6\n7\n8\n9\n10\n11\n12\n");
  assertOneLine(whole.errors, "Entry 3 is lost");
  const none = await walrus(["dump", log, "--salvage", "--term", "13"]);
  assertEquals([none.code, none.text, none.errors], [0, "", ""]);
});

test("Threshold.find() lets entries pass that come once it is reached", () => {
  using wal = openWalSync("log", { storage: memoryStorage() });
  const append = (n: number) =>
    wal.appendSync({ data: `${n}`, term: n, timestampNs: START + BigInt(n) });
  for (let n = 1; n <= 3; n++) append(n);
  const begin = (...args: string[]) => {
    const found = new Threshold(new Arguments(args, THRESHOLD_OPTIONS)).find(
      wal,
    );
    return { ...found, printed: [] as number[] };
  };
  const since = (n: number) => ["--since", `${START + BigInt(n)}`];
  const cases = [
    { found: begin(), from: 0, printed: [4, 5, 6, 7, 8] },
    { found: begin("--term", "2"), from: 2, printed: [4, 5, 6, 7, 8] },
    { found: begin(...since(3)), from: 3, printed: [4, 5, 6, 7, 8] },
    { found: begin("--term", "6"), from: 4, printed: [6, 7, 8] },
    { found: begin(...since(7)), from: 4, printed: [7, 8] },
    {
      found: begin("--term", "2", ...since(5)),
      from: 4,
      printed: [5, 6, 7, 8],
    },
    { found: begin("--term", "8", ...since(5)), from: 4, printed: [8] },
    { found: begin("--term", "9"), from: 4, printed: [] },
  ];
  for (let n = 4; n <= 7; n++) append(n);
  // Once reached, it is reached: terms and times may fall.
  wal.appendSync({ data: "8", term: 8, timestampNs: START });
  for (const { found, from, printed } of cases) {
    assertEquals(found.from, from);
    for (const entry of wal.entries({ from: 4 })) {
      if (found.hasBegun(entry)) found.printed.push(entry.index);
    }
    assertEquals(found.printed, printed);
  }
});

test("parseTime() takes times as they are written, to the nanosecond", () => {
  const ns = (text: string) => BigInt(Date.parse(text)) * 1_000_000n;
  const cases: [string, bigint | undefined][] = [
    ["0", 0n],
    ["-1", -1n],
    ["1700000000123456789", 1_700_000_000_123_456_789n],
    ["2026-11-22T23:06:15Z", ns("2026-11-22T23:06:15Z")],
    ["2026-11-22T23:06:15.5Z", ns("2026-11-22T23:06:15.500Z")],
    ["2026-11-22T23:06:15,123456789Z", ns("2026-11-22T23:06:15Z") + 123456789n],
    ["2026-11-22T23:06+01:00", ns("2026-11-22T22:06:00Z")],
    ["2026-11-22 23:06:15-00:30", ns("2026-11-22T23:36:15Z")],
    ["1969-12-31T23:59:59.999999999Z", -1n],
    ["2024-02-29T00:00Z", ns("2024-02-29T00:00:00Z")],
    // Without a zone it is the time here.
    ["2026-11-22T23:06:15", ns("2026-11-22T23:06:15")],
    ["2026-11-22", ns("2026-11-22T00:00:00")],
    ["2025-02-29", undefined],
    ["2026-13-01", undefined],
    ["2026-11-22T25:00Z", undefined],
    ["2026-11-22T23:06:15.1234567891Z", undefined],
    ["2026-11-22T", undefined],
    ["2026-11-22T23:06 UTC", undefined],
    ["2026-11-22T23:06Z x", undefined],
    ["22.11.2026", undefined],
    ["yesterday", undefined],
    ["1.5", undefined],
    ["", undefined],
    [" 1", undefined],
  ];
  for (const [text, expected] of cases) {
    assertEquals(parseTime(text), expected, JSON.stringify(text));
  }
});
