/**
 * `walrus dump --follow` on a log that another process writes.
 *
 * @module
 */
import { type ChildProcess, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { openWal, type Wal } from "../mod.ts";
import { assert, assertEquals, assertGreater } from "./_assert.ts";
import { assertOneLine, finish, start, startWith, until } from "./_cli.ts";
import { temporaryFolder } from "./_storages.ts";

/** Waiting for another process may take long where much else runs. */
const SLOW = { timeout: 60_000 };
const SEGMENT_BYTES = 65_536;
const NAMES = ["SIGINT", "SIGTERM"] as const;
const CODES = { SIGINT: 130, SIGTERM: 143 };

const open = (path: string) =>
  openWal(path, { segmentBytes: SEGMENT_BYTES, sync: "never" });

/** What a follower has printed so far, and how it ends. */
function watch(child: ChildProcess) {
  let text = "";
  child.stdout!.on("data", (chunk) => text += chunk);
  return {
    ended: finish(child),
    text: () => text,
    /** Waits for the line. */
    line: (line: string) => until(() => `\n${text}`.includes(`\n${line}\n`)),
  };
}

/** "1\n2\n…". */
function lines(from: number, to: number): string {
  let text = "";
  for (let n = from; n <= to; n++) text += `${n}\n`;
  return text;
}

/** Appends lines that bear their index. */
function fill(wal: Wal, count: number): void {
  for (let i = 0; i < count; i++) {
    wal.appendSync(`${wal.nextIndex}`, { durable: false });
  }
}

for (const signal of NAMES) {
  test(
    `cli dump --follow: history, then live, until ${signal}`,
    SLOW,
    async () => {
      using folder = temporaryFolder();
      const log = join(folder.path, "log");
      await using wal = await open(log);
      fill(wal, 10);
      const child = start(["dump", log, "--follow", "--from", "4"]);
      const seen = watch(child);
      await seen.line("10");
      // One by one, each is printed before the next is there.
      for (let n = 11; n <= 20; n++) {
        fill(wal, 1);
        await seen.line(`${n}`);
      }
      // Through several rotations.
      const { number } = wal.segments().at(-1)!;
      fill(wal, 5000);
      assertGreater(wal.segments().at(-1)!.number, number + 1);
      await seen.line("5020");
      process.kill(child.pid!, signal);
      const { code, text, errors } = await seen.ended;
      assertEquals([code, errors], [CODES[signal], ""]);
      assert(text === lines(4, 5020), "every entry once, in order");
    },
  );
}

test(
  "cli dump --follow: waits for --to, --limit, --term, --since",
  SLOW,
  async () => {
    using folder = temporaryFolder();
    const log = join(folder.path, "log");
    await using wal = await open(log);
    const since = 1_800_000_000_000_000_000n;
    const cases: [string[], string][] = [
      [["--to", "6"], lines(1, 6)],
      [["--limit", "5", "--from", "3"], lines(3, 7)],
      [["--term", "7", "--limit", "3"], lines(7, 9)],
      [["--since", `${since + 8n}`, "--limit", "2"], lines(8, 9)],
      [["--term", "2", "--since", `${since + 5n}`, "--to", "6"], lines(5, 6)],
      [["--from", "9", "--limit", "1"], lines(9, 9)],
      [["--from", "2", "--to", "1"], ""],
      [["--limit", "0"], ""],
    ];
    const append = (n: number) =>
      wal.appendSync({ data: `${n}`, term: n, timestampNs: since + BigInt(n) });
    for (let n = 1; n <= 3; n++) append(n);
    const running = cases.map(([options, expected]) => {
      const child = start(["dump", log, "--follow", ...options]);
      return { options, expected, seen: watch(child) };
    });
    await running[0]!.seen.line("3");
    for (let n = 4; n <= 9; n++) append(n);
    for (const { options, expected, seen } of running) {
      const { code, text, errors } = await seen.ended;
      assertEquals([code, text, errors], [0, expected, ""], options.join(" "));
    }
  },
);

test(
  "cli dump --follow: from the end, as JSON, from the next writer",
  SLOW,
  async () => {
    using folder = temporaryFolder();
    const log = join(folder.path, "log");
    let wal = await open(log);
    fill(wal, 3);
    const child = start(["dump", log, "--follow", "--from", "end", "--json"]);
    const seen = watch(child);
    // Nothing says when it is there: it prints what comes from then on.
    await until(() => {
      fill(wal, 1);
      return seen.text().includes("\n");
    });
    await wal.close();
    wal = await open(log);
    fill(wal, 3);
    await until(() => seen.text().includes(`"index":${wal.lastIndex},`));
    process.kill(child.pid!, "SIGINT");
    const { code, text } = await seen.ended;
    const printed = text.trimEnd().split("\n").map((line) => JSON.parse(line));
    const first = printed[0].index;
    assertGreater(first, 3);
    assertEquals(
      printed.map(({ index, text }) => `${index} ${text}`),
      printed.map((_, i) => `${first + i} ${first + i}`),
    );
    assertEquals([code, printed.at(-1).index], [130, wal.lastIndex]);
    await wal.close();
  },
);

test(
  "cli dump --follow: what was printed and is taken away is an error",
  SLOW,
  async () => {
    using folder = temporaryFolder();
    const log = join(folder.path, "log");
    await using wal = await open(log);
    fill(wal, 5);
    const seen = watch(start(["dump", log, "--follow"]));
    await seen.line("5");
    await wal.truncateAfter(3);
    wal.appendSync("another 4");
    const { code, text, errors } = await seen.ended;
    assertEquals([code, text], [1, lines(1, 5)]);
    assertOneLine(errors, "[INDEX_OUT_OF_RANGE]");
  },
);

test(
  "cli dump --follow: a reader that goes away ends it quietly",
  SLOW,
  async () => {
    using folder = temporaryFolder();
    const log = join(folder.path, "log");
    await using wal = await open(log);
    fill(wal, 5);
    const child = start(["dump", log, "--follow"]);
    const seen = watch(child);
    await seen.line("5");
    child.stdout.destroy();
    let over = false;
    seen.ended.then(() => over = true);
    await until(() => {
      fill(wal, 1);
      return over;
    });
    const { code, errors } = await seen.ended;
    assertEquals([code, errors], [0, ""]);
  },
);

test(
  "cli dump --follow: ends by ^C also while its pipe is full",
  SLOW,
  async () => {
    using folder = temporaryFolder();
    const log = join(folder.path, "log");
    await using wal = await open(log);
    const line = "x".repeat(999);
    for (let i = 0; i < 500; i++) wal.appendSync(line, { durable: false });
    const pipe = join(folder.path, "pipe");
    assertEquals(spawnSync("mkfifo", [pipe]).status, 0);
    const { O_NONBLOCK, O_RDONLY, O_RDWR } = fs.constants;
    const reading = fs.openSync(pipe, O_RDONLY | O_NONBLOCK);
    const writing = fs.openSync(pipe, O_RDWR);
    const child = startWith(
      ["ignore", writing, "pipe"],
      ["dump", log, "--follow"],
    );
    let result: Awaited<ReturnType<typeof finish>> | undefined;
    finish(child).then((ended) => result = ended);
    try {
      // The first bytes are there: it goes on until the pipe is full.
      await until(() => hasBytes(reading));
      process.kill(child.pid!, "SIGINT");
      await until(() => result !== undefined);
      assertEquals([result!.code, result!.errors], [130, ""]);
    } finally {
      child.kill("SIGKILL");
      fs.closeSync(reading);
      fs.closeSync(writing);
    }
  },
);

function hasBytes(descriptor: number): boolean {
  try {
    return fs.readSync(descriptor, new Uint8Array(1)) === 1;
  } catch {
    // Nothing yet, as it does not block.
    return false;
  }
}

test("cli dump --follow: where no log is, one line", SLOW, async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const seen = watch(start(["dump", log, "--follow"]));
  const { code, errors } = await seen.ended;
  assertEquals(code, 3);
  assertOneLine(errors, "[SEGMENT_NOT_FOUND]");
  assertEquals(fs.existsSync(log), false);
});
