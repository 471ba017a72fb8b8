/**
 * The command line, as a shell sees it: output, messages and exit codes.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { VERSION } from "../cli/help.ts";
import { openWalSync } from "../mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertLess,
  assertMatch,
  assertStringIncludes,
} from "./_assert.ts";
import {
  assertOneLine,
  assertWrongUses,
  bytesOf,
  finish,
  NO_PERMISSIONS,
  ROOT,
  SMALL,
  start,
  until,
  walrus,
  WITHOUT_RIGHTS,
} from "./_cli.ts";
import { HAS_FFI, temporaryFolder } from "./_storages.ts";

const GO_FOLDER = join(import.meta.dirname!, "fixtures", "go", "binary", "log");

test("cli: help, version and wrong use", async () => {
  const version = await walrus(["--version"]);
  assertEquals(version.text, `walrus ${VERSION}\n`);
  assertEquals(version.code, 0);
  const config = fs.readFileSync(join(ROOT, "deno.json"), "utf8");
  assertEquals(JSON.parse(config).version, VERSION);

  const help = await walrus(["help"]);
  assertEquals([help.code, help.errors], [0, ""]);
  for (const command of ["append", "dump", "stat", "verify", "repair"]) {
    assertStringIncludes(help.text, `walrus ${command} DIR`);
  }
  const append = await walrus(["append", "--help"]);
  assertStringIncludes(append.text, "--segment-bytes");
  assertEquals((await walrus(["help", "dump"])).code, 0);

  const wrong: [string[], string][] = [
    [[], 'The command is missing; see "walrus help"'],
    [["eat"], 'Command "eat" is unknown, expected append, consumers'],
    [["help", "eat"], 'Command "eat" is unknown'],
    [["dump"], `The log's folder is missing; see "walrus help dump"`],
    [["dump", "a", "b"], 'Argument "b" is one too many'],
    [["dump", "a", "--lines"], "Option --lines is unknown, expected --json"],
    [["dump", "a", "--from"], "Option --from needs a value"],
    [["dump", "a", "--json=yes"], "Option --json takes no value"],
    [["dump", "a", "--from", "-1"], 'Option --from is "-1", expected a whole'],
    [["dump", "a", "--limit=x"], 'Option --limit is "x", expected a whole'],
    [["append", "a", "--batch", "0"], 'Option --batch is "0", expected'],
    [["append", "a", "--sync", "no"], 'is "no", expected one of always,'],
    [["append", "a", "--format=xml"], "expected one of binary, json"],
    [["append", "a", "--segment-bytes=1"], "segmentBytes is 1, expected"],
    [["stat", "a", "--storage", "tape"], "expected one of mapped, files"],
    [["repair", "a", "--yes"], "Option --yes is alone, expected what to do"],
    [["repair", "a", "--cut", "--index"], "Options --index, --cut are several"],
    [["repair", "a", "--salvage"], "Option --salvage needs a value"],
    [["repair", "a", "--salvage="], "--salvage needs the new log's folder"],
    [["repair", "a", "--cut"], "there is no terminal to ask: expected --yes"],
    [["repair", "a", "b"], 'Argument "b" is one too many'],
  ];
  using folder = temporaryFolder();
  await assertWrongUses(folder.path, wrong);
});

test("cli append, dump: every byte of every line comes back", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const binary = new Uint8Array(70_000);
  for (let i = 0; i < binary.length; i++) binary[i] = (i * 7919) >>> 3;
  const input = Buffer.concat([
    Buffer.from("one\r\n\nzwölf\n"),
    binary,
    Buffer.from("\nno end"),
  ]);
  const lines = input.toString("latin1").split("\n");
  const appended = await walrus(["append", log, ...SMALL], input);
  assertEquals([appended.code, appended.text], [0, ""], appended.errors);
  assertMatch(
    appended.errors,
    new RegExp(`^Appended ${lines.length} entries, .*, 1 to ${lines.length}\n`),
  );
  const dumped = await walrus(["dump", log]);
  assertEquals([dumped.code, dumped.errors], [0, ""]);
  assertEquals(
    dumped.out,
    new Uint8Array(Buffer.concat([input, Buffer.from("\n")])),
  );

  const json = (await walrus(["dump", log, "--json"])).text.trimEnd()
    .split("\n").map((line) => JSON.parse(line));
  assertEquals(json.length, lines.length);
  assertEquals(json.map(({ index }) => index), lines.map((_, i) => i + 1));
  assertEquals(json[2].text, "zwölf");
  const decoded = json.map(({ text, base64 }) =>
    Buffer.from(text ?? base64, text === undefined ? "base64" : "utf8")
      .toString("latin1")
  );
  assertEquals(decoded, lines);
});

test("cli dump: ranges, limits and the reverse", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  await walrus(["append", log, ...SMALL, "--batch", "4"], "a\nb\nc\nd\ne\nf\n");
  const cases: [string[], string][] = [
    [["--from", "3"], "c\nd\ne\nf\n"],
    [["--to", "2"], "a\nb\n"],
    [["--from=2", "--to=4", "--reverse"], "d\nc\nb\n"],
    [["--limit", "2"], "a\nb\n"],
    [["--reverse", "--limit", "2"], "f\ne\n"],
    [["--from", "5", "--to", "2"], ""],
    [["--from", "99"], ""],
    [["--limit", "0"], ""],
    [["--storage", "files", "--from", "6"], "f\n"],
  ];
  for (const [options, expected] of cases) {
    const { code, text, errors } = await walrus(["dump", log, ...options]);
    assertEquals([code, text, errors], [0, expected, ""], options.join(" "));
  }
});

test("cli append: several files, and more to the same log", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const one = join(folder.path, "one");
  fs.writeFileSync(one, "a\nb");
  const format = ["--format", "json", "--storage", "files"];
  const first = await walrus(["append", log, one, "-", one, ...format], "c\n");
  assertEquals(first.code, 0, first.errors);
  const second = await walrus(["append", log, "--sync", "never"], "d");
  assertMatch(second.errors, /^Appended 1 entry, 1 bytes .*, 6 to 6\n$/);
  assertEquals((await walrus(["dump", log])).text, "a\nb\nc\na\nb\nd\n");
  const other = await walrus(["append", log, "--format", "binary"], "x");
  assertEquals(other.code, 3);
  assertOneLine(other.errors, "[UNSUPPORTED_FORMAT]");
});

test("cli append: empty input makes and keeps a log", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  for (let i = 0; i < 2; i++) {
    const { code, errors } = await walrus(["append", log, ...SMALL], "");
    assertEquals(code, 0);
    assertMatch(errors, /^Appended 0 entries, 0 bytes/);
  }
  assertEquals((await walrus(["dump", log])).text, "");
  const stat = await walrus(["stat", log, "--json"]);
  const { entryCount, nextIndex, recovery } = JSON.parse(stat.text);
  assertEquals([entryCount, nextIndex, recovery.outcome], [0, 1, "clean"]);
  assertStringIncludes((await walrus(["stat", log])).text, "entries  none");
  assertStringIncludes((await walrus(["verify", log])).text, "sound: 0 sound");
});

test("cli append: a line that no entry can hold is refused", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const largest = Buffer.alloc(16 * 1024 * 1024, "x");
  const input = Buffer.concat([
    Buffer.from("a\n"),
    largest,
    Buffer.from("\nb\n"),
    largest,
    Buffer.from("x\nc\n"),
  ]);
  const args = ["append", log, "--batch", "2", "--sync", "never"];
  const { code, errors } = await walrus(args, input);
  assertEquals(code, 1);
  assertStringIncludes(errors, "line 4 of standard input");
  assertStringIncludes(errors, "longer than 16777216 bytes");
  const { text } = await walrus(["stat", log, "--json"]);
  assertEquals(JSON.parse(text).entryCount, 3);
  assertEquals((await walrus(["verify", log])).code, 0);
});

test("cli append: 64 MiB keep their order, in bounded memory", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const file = join(folder.path, "file");
  const block = Buffer.from(
    Array.from({ length: 8192 }, (_, i) => `${i} ${"y".repeat(i % 250)}\n`)
      .join(""),
  );
  const count = Math.ceil(64 * 1024 * 1024 / block.length);
  const descriptor = fs.openSync(file, "w");
  for (let i = 0; i < count; i++) fs.writeSync(descriptor, block);
  fs.closeSync(descriptor);
  const child = start(["append", log, file]);
  let peakKib = 0;
  const timer = setInterval(() => {
    peakKib = Math.max(peakKib, anonymousKib(child.pid!));
  }, 20);
  const { code, errors } = await finish(child, "");
  clearInterval(timer);
  assertEquals(code, 0, errors);
  assertLess(peakKib, 400 * 1024);
  const expected = fs.readFileSync(file);
  const dumped = await walrus(["dump", log]);
  assert(expected.equals(dumped.out), "the dump is the file");
});

function anonymousKib(pid: number): number {
  try {
    const status = fs.readFileSync(`/proc/${pid}/status`, "utf8");
    return Number(/^RssAnon:\s*(\d+)/m.exec(status)?.[1] ?? 0);
  } catch {
    return 0;
  }
}

test("cli dump: a pipe that is closed early ends it quietly", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  await walrus(
    ["append", log, "--sync", "never"],
    "line of text\n".repeat(1e5),
  );
  for (const options of [[], ["--json"]]) {
    const child = start(["dump", log, ...options]);
    const ended = finish(child, "");
    await new Promise<void>((resolve) => {
      child.stdout.once("data", () => {
        child.stdout.destroy();
        resolve();
      });
    });
    const { code, errors } = await ended;
    assertEquals([code, errors], [0, ""]);
  }
});

for (const [signal, expected] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  test(`cli append: ${signal} closes the log first`, async () => {
    using folder = temporaryFolder();
    const log = join(folder.path, "log");
    const child = start(["append", log, ...SMALL, "--batch", "2"]);
    const ended = finish(child);
    child.stdin.write("a\nb\nc\nhalf a li");
    await until(() => fs.existsSync(join(log, "manifest")));
    await until(() => countEntries(log) >= 2);
    // Deno's child.kill() would close the child's input first.
    process.kill(child.pid!, signal);
    const { code, errors } = await ended;
    assertEquals(code, expected, errors);
    assertStringIncludes(errors, "Appended 3 entries");
    const { text } = await walrus(["stat", log, "--json"]);
    assertEquals(JSON.parse(text).recovery.closed, true);
    assertEquals((await walrus(["dump", log])).text, "a\nb\nc\n");
  });
}

function countEntries(log: string): number {
  // The bytes of "a" and "b" lie in the first segment once they are written.
  const name = fs.readdirSync(log).find((one) => one.endsWith(".wal"));
  if (name === undefined) return 0;
  const bytes = fs.readFileSync(join(log, name)).subarray(4096, 8192);
  return ["a", "b"].filter((text) => bytes.includes(text)).length;
}

test("cli: reading commands change nothing, also after a crash", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  {
    using wal = openWalSync(log, { segmentBytes: 65536 });
    for (let i = 0; i < 2000; i++) {
      wal.appendSync(`entry ${i}`, { durable: false });
    }
    fs.cpSync(log, join(folder.path, "crashed"), { recursive: true });
  }
  for (const name of ["log", "crashed"]) {
    const path = join(folder.path, name);
    const before = bytesOf(path);
    const stat = JSON.parse((await walrus(["stat", path, "--json"])).text);
    assertEquals([stat.entryCount, stat.firstIndex], [2000, 1]);
    assertEquals(stat.storage, HAS_FFI ? "mapped" : "files");
    assertEquals(stat.recovery.closed, name === "log");
    assertGreater(stat.segments.length, 1);
    assertEquals(stat.segments.at(-1).sealed, false);
    assertEquals((await walrus(["dump", path])).text.split("\n").length, 2001);
    const verified = await walrus(["verify", path]);
    assertEquals(verified.code, 0, verified.text);
    assertMatch(verified.text, /^sound: 2000 sound entries in \d+ segments/);
    const summary = (await walrus(["stat", path])).text;
    assertStringIncludes(summary, "entries  2000, 1 to 2000\n");
    assertEquals(bytesOf(path), before, name);
  }
});

test("cli: a log in use is read, and not written", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  using wal = openWalSync(log, { segmentBytes: 65536 });
  for (let i = 0; i < 100; i++) wal.appendSync(`entry ${i}`);
  const locked = await walrus(["append", log], "x");
  assertEquals(locked.code, 3);
  assertOneLine(locked.errors, "[LOCKED]");
  let more = true;
  const writing = (async () => {
    while (more) {
      for (let i = 0; i < 50; i++) wal.appendSync("more", { durable: false });
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  })();
  for (const command of ["stat", "dump", "verify"]) {
    const { code, errors, text } = await walrus([command, log]);
    assertEquals([code, errors], [0, ""], text);
  }
  more = false;
  await writing;
});

test("cli verify: damage is told with code 1, a torn tail with 0", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  await walrus(["append", log, ...SMALL], "alpha\nbeta\ngamma\n");
  const name = fs.readdirSync(log).find((one) => one.endsWith(".wal"))!;
  const path = join(log, name);
  const bytes = fs.readFileSync(path);
  bytes[bytes.indexOf("beta")]! ^= 1;
  fs.writeFileSync(path, bytes);
  const { code, text } = await walrus(["verify", log]);
  assertEquals(code, 1);
  assertStringIncludes(text, `damage: ${name} at offset `);
  assertStringIncludes(text, "entry 2 is lost: found a frame with a wrong ");
  assertStringIncludes(text, "damaged: 1 finding, 2 sound entries, 1 lost,");
  assertStringIncludes(text, "1 entry is lost by it.\nOpening takes the log");
  assertStringIncludes(text, `Next: restore the files named above from a copy`);
  assertStringIncludes(text, `    walrus repair ${log}`);
  const json = JSON.parse((await walrus(["verify", log, "--json"])).text);
  assertEquals(json.outcome, "damaged");
  assertEquals(json.findings[0].firstLostIndex, 2);
  assertEquals([json.entryCount, json.lostCount, json.opens], [2, 1, true]);
  const salvaged = await walrus(["dump", log, "--salvage"]);
  assertEquals([salvaged.code, salvaged.text], [1, "alpha\ngamma\n"]);
  assertOneLine(salvaged.errors, `Entry 2 is lost: ${name} is damaged`);
  const back = await walrus(["dump", log, "--salvage", "--reverse"]);
  assertEquals(back.text, "gamma\nalpha\n");
  const some = ["--from", "3", "--limit", "5"];
  const behind = await walrus(["dump", log, "--salvage", ...some]);
  assertEquals([behind.code, behind.text, behind.errors], [0, "gamma\n", ""]);
  const dumped = await walrus(["dump", log]);
  assertEquals([dumped.code, dumped.text], [1, "alpha\n"]);
  assertOneLine(dumped.errors, "[CHECKSUM_MISMATCH]");
});

test("cli: what is no log is refused, and nothing is made", async () => {
  using folder = temporaryFolder();
  const file = join(folder.path, "file");
  fs.writeFileSync(file, "text");
  const empty = join(folder.path, "empty");
  fs.mkdirSync(empty);
  const go = join(folder.path, "go");
  fs.cpSync(GO_FOLDER, go, { recursive: true });
  const before = bytesOf(folder.path);
  const cases: [string, string][] = [
    [join(folder.path, "none", "deeper"), "[SEGMENT_NOT_FOUND]"],
    [empty, "[SEGMENT_NOT_FOUND]"],
    [file, "[STORAGE]"],
    [go, "[UNSUPPORTED_FORMAT]"],
  ];
  for (const command of ["dump", "stat", "verify"]) {
    await Promise.all(cases.map(async ([path, expected]) => {
      const { code, text, errors } = await walrus([command, path]);
      assertOneLine(errors, expected);
      assertEquals([code, text], [3, ""], `${command} ${path}`);
    }));
  }
  for (const path of [file, go]) {
    const { code, errors } = await walrus(["append", path], "x\n");
    assertEquals(code, 3, errors);
    assertOneLine(errors, /\[(STORAGE|UNSUPPORTED_FORMAT)\]/);
  }
  for (const input of [join(folder.path, "nothing"), empty]) {
    const log = join(folder.path, "log");
    const { code, errors } = await walrus(["append", log, input]);
    assertEquals(code, 3);
    assertOneLine(errors, `Cannot read ${JSON.stringify(input)}: `);
  }
  assertEquals(bytesOf(folder.path), before);
});

test("cli: no permission is one clear line", {
  skip: NO_PERMISSIONS,
}, async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  await walrus(["append", log, ...SMALL], "a\n");
  fs.chmodSync(log, 0o000);
  try {
    for (const command of ["dump", "stat", "verify"]) {
      const child = start([command, log], WITHOUT_RIGHTS);
      const { code, errors } = await finish(child, "");
      assertEquals(code, 3, errors);
      assertOneLine(errors, /permission denied.*\[STORAGE\]/);
    }
  } finally {
    fs.chmodSync(log, 0o700);
  }
});

/** A log of 2 000 lines, and the files of its segments. */
async function longLog(log: string): Promise<string[]> {
  const lines = Array.from({ length: 2000 }, (_, i) => `line ${i + 1}\n`);
  await walrus(["append", log, ...SMALL, "--batch", "2"], lines.join(""));
  const names = fs.readdirSync(log).filter((one) => one.endsWith(".wal"));
  return names.sort().map((name) => join(log, name));
}

function change(path: string, edit: (bytes: Buffer) => void): void {
  const bytes = fs.readFileSync(path);
  edit(bytes);
  fs.writeFileSync(path, bytes);
}

test("cli repair: says what can be done, and changes nothing", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "a log");
  const [first] = await longLog(log);
  const sound = await walrus(["repair", log]);
  assertEquals([sound.code, sound.errors], [0, ""]);
  assertMatch(sound.text, /^The log is sound: 2000 entries of 1 to 2000 in 2/);

  change(first!, (bytes) => bytes[bytes.indexOf("line 101")]! ^= 1);
  change(first!, (bytes) => bytes.fill(0, bytes.length - 64));
  const before = bytesOf(log);
  const { code, text, errors } = await walrus(["repair", log]);
  assertEquals([code, errors], [1, ""]);
  for (
    const expected of [
      "The log is damaged: 1998 entries of 1 to 2000, 2 lost, in 2 segments; " +
      "opening takes it.",
      "entries 101 to 102 are lost: found a frame with a wrong checksum",
      "index: segment_00000000000000000001.wal at offset",
      "restore segment_00000000000000000001.wal from a copy",
      `walrus repair '${log}' --cut\n`,
      "keeps 100 entries, 1 to 100; cuts 1898 entries that can be read, and " +
      "the 2 lost.",
      "1 file as a whole, and a copy of",
      `walrus repair '${log}' --salvage NEWDIR\n`,
      "1898 entries behind a gap get other indexes",
    ]
  ) assertStringIncludes(text, expected);
  assert(!text.includes("--manifest"), text);
  assert(!text.includes("--index"), "a segment with a hole is left alone");
  const json = JSON.parse((await walrus(["repair", log, "--json"])).text);
  assertEquals([json.sound, json.opens, json.entryCount], [false, true, 1998]);
  assertEquals(json.remedies.cut.keptCount, 100);
  assertEquals(json.remedies.manifest, false);
  const asked = await walrus(["repair", log, "--cut"]);
  assertEquals([asked.code, asked.text], [2, ""]);
  assertOneLine(asked.errors, "no terminal to ask: expected --yes");
  assertEquals(bytesOf(log), before, "not a byte is changed");
});

test("cli repair --cut: ends the log before the damage", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const [first, second] = await longLog(log);
  change(first!, (bytes) => bytes.fill(0, 8192, 12288));
  const kept = fs.readFileSync(second!);
  const done = await walrus(["repair", log, "--cut", "--yes"]);
  assertEquals([done.code, done.errors], [0, ""]);
  assertMatch(done.text, /^Done\.\nKept in .*\/cut\/.*:\n/);
  assertStringIncludes(done.text, "The log is sound: ");
  const saved = /Kept in (.*):/.exec(done.text)![1]!;
  const name = "segment_00000000000000000002.wal";
  assertEquals(fs.readFileSync(join(saved, name)), kept);
  assertEquals(fs.existsSync(second!), false);
  const again = await walrus(["repair", log, "--cut", "--yes"]);
  assertEquals(again.code, 0);
  assertStringIncludes(again.text, "Nothing to do.");
  await walrus(["append", log], "more\n");
  const dumped = (await walrus(["dump", log])).text.split("\n");
  assertEquals(dumped.at(-2), "more");
  assertEquals(dumped[70], "line 71");
  assertLess(dumped.length, 200);
});

test("cli repair --index, --manifest: lose nothing", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const [first] = await longLog(log);
  const before = (await walrus(["dump", log])).text;
  change(first!, (bytes) => bytes.fill(1, bytes.length - 1000));
  const index = await walrus(["repair", log, "--index", "--yes"]);
  assertEquals(index.code, 0, index.text + index.errors);
  assertEquals((await walrus(["verify", log])).code, 0);
  change(join(log, "manifest"), (bytes) => bytes.fill(0));
  assertEquals((await walrus(["verify", log])).code, 1);
  const manifest = await walrus(["repair", log, "--manifest", "--yes"]);
  assertEquals(manifest.code, 0, manifest.text + manifest.errors);
  assertEquals((await walrus(["verify", log])).code, 0);
  assertEquals((await walrus(["dump", log])).text, before);

  fs.rmSync(join(log, "manifest"));
  fs.rmSync(first!);
  const refused = await walrus(["repair", log, "--manifest", "--yes"]);
  assertEquals([refused.code, refused.errors], [0, ""]);
  assertStringIncludes(refused.text, "The log is sound");
});

test("cli repair --salvage: writes a new log", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const fresh = join(folder.path, "new");
  const [first] = await longLog(log);
  change(first!, (bytes) => bytes[bytes.indexOf("line 101")]! ^= 1);
  const order = ["repair", log, "--salvage", fresh, "--yes"];
  const before = bytesOf(log).replaceAll(/^LOCK.*$/gm, "");
  const done = await walrus(order);
  assertEquals([done.code, done.errors], [0, ""]);
  assertStringIncludes(done.text, "has 1998 entries.");
  assertStringIncludes(done.text, "1 gap could not be read. 1898 entries have");
  assertEquals(bytesOf(log).replaceAll(/^LOCK.*$/gm, ""), before);
  const lines = (await walrus(["dump", fresh])).text.split("\n");
  assertEquals([lines[99], lines[100]], ["line 100", "line 103"]);
  const report = fs.readFileSync(join(fresh, "salvage.json"), "utf8");
  assertEquals(JSON.parse(report).ranges.length, 2);
  const again = await walrus(order);
  assertStringIncludes(again.text, "1998 of them were there already");
  const other = join(folder.path, "other");
  await walrus(["append", other], "x\n");
  const into = ["repair", log, "--salvage", other, "--yes"];
  const refused = await walrus(into);
  assertEquals(refused.code, 3);
  assertOneLine(refused.errors, "expected a new or empty folder");
});

test("cli repair: a log in use is left alone", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const [first] = await longLog(log);
  using wal = openWalSync(log);
  change(first!, (bytes) => bytes[bytes.indexOf("line 101")]! ^= 1);
  for (
    const remedy of [["--cut"], ["--index"], ["--manifest"], [
      "--salvage",
      join(folder.path, "new"),
    ]]
  ) {
    const { code, errors } = await walrus(["repair", log, ...remedy, "--yes"]);
    assertEquals(code, 3);
    assertOneLine(errors, "[LOCKED]");
  }
  assertEquals((await walrus(["repair", log])).code, 1);
  assertEquals(wal.lastIndex, 2000);
});
