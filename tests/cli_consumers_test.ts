/**
 * `walrus consumers`, as a shell sees it.
 *
 * @module
 */
import * as fs from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { openWal, openWalSync } from "../mod.ts";
import { assertEquals, assertStringIncludes } from "./_assert.ts";
import {
  assertOneLine,
  assertWrongUses,
  bytesOf,
  finish,
  NO_PERMISSIONS,
  start,
  walrus,
  WITHOUT_RIGHTS,
} from "./_cli.ts";
import { temporaryFolder } from "./_storages.ts";

/** A log of five entries with two consumers, at 5 and at 2. */
async function makeLog(path: string): Promise<void> {
  await using wal = await openWal(path, { segmentBytes: 65_536 });
  await wal.appendBatch(["1", "2", "3", "4", "5"]);
  await (await wal.consumer("quick")).ack(5);
  await (await wal.consumer("a-slow.one")).ack(2);
}

test("cli consumers: what is not understood is refused", async () => {
  using folder = temporaryFolder();
  await assertWrongUses(folder.path, [
    [["consumers", "a", "b"], 'Argument "b" is one too many'],
    [["consumers", "a", "--yes"], "Option --yes is alone, expected what to do"],
    [["consumers", "a", "--remove", "x"], "no terminal to ask: expected --yes"],
    [
      ["consumers", "a", "--remove", "../log/manifest", "--yes"],
      'Option --remove is "../log/manifest", expected a consumer\'s name',
    ],
    [["consumers", "a", "--remove", ".x", "--yes"], 'is ".x", expected'],
    [["consumers", "a", "--remove=", "--yes"], 'is "", expected'],
  ]);
});

test("cli consumers: lists them, changes nothing", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  await makeLog(log);
  const before = bytesOf(log);
  const { code, text, errors } = await walrus(["consumers", log]);
  assertEquals([code, errors], [0, ""]);
  assertEquals(
    text,
    "a-slow.one  at 2, 3 entries behind\nquick       at 5, 0 entries behind\n",
  );
  const json = await walrus(["consumers", log, "--json"]);
  assertEquals(JSON.parse(json.text), {
    directory: log,
    consumers: [
      { name: "a-slow.one", position: 2, lag: 3 },
      { name: "quick", position: 5, lag: 0 },
    ],
  });
  assertEquals(bytesOf(log), before);
  const none = join(folder.path, "none");
  openWalSync(none, { segmentBytes: 65_536 }).closeSync();
  assertEquals((await walrus(["consumers", none])).text, "no consumers\n");
  // Behind what was removed only what is there counts.
  {
    using wal = openWalSync(log);
    wal.truncateBeforeSync(5);
  }
  const later = JSON.parse((await walrus(["consumers", log, "--json"])).text);
  assertEquals(later.consumers[0], { name: "a-slow.one", position: 2, lag: 1 });
});

test("cli consumers: tells as the writer does while it writes", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  await makeLog(log);
  await using wal = await openWal(log);
  await using worker = await wal.consumer("worker", { from: 4 });
  await worker.ack(4);
  const told = [...wal.consumers()];
  const { text } = await walrus(["consumers", log, "--json"]);
  assertEquals(JSON.parse(text).consumers, told);
  const removing = ["consumers", log, "--remove", "worker", "--yes"];
  const { code, errors } = await walrus(removing);
  assertEquals(code, 3);
  assertOneLine(errors, "[LOCKED]");
  assertEquals([...wal.consumers()], told);
});

test("cli consumers --remove: takes one away, once", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  await makeLog(log);
  const removing = ["consumers", log, "--remove", "a-slow.one", "--yes"];
  const done = await walrus(removing);
  assertEquals([done.code, done.errors], [0, ""]);
  assertEquals(done.text, 'Removed "a-slow.one", at 2, 3 entries behind.\n');
  const again = await walrus(removing);
  assertEquals([again.code, again.text], [3, ""]);
  assertOneLine(again.errors, "there is none of this name");
  const quick = ["consumers", log, "--remove", "quick", "--yes", "--json"];
  assertEquals(JSON.parse((await walrus(quick)).text), {
    directory: log,
    removed: { name: "quick", position: 5, lag: 0 },
  });
  await using wal = await openWal(log);
  assertEquals(wal.consumers(), []);
  // A new one of the name begins anew.
  await using fresh = await wal.consumer("a-slow.one");
  assertEquals(fresh.position, 0);
});

test("cli consumers: a damaged one is told, and can be removed", async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  await makeLog(log);
  const file = join(log, "consumers", "quick");
  fs.writeFileSync(file, fs.readFileSync(file).fill(7));
  fs.writeFileSync(join(log, "consumers", ".other"), "not a consumer");
  const listed = await walrus(["consumers", log]);
  assertEquals([listed.code, listed.errors], [1, ""]);
  assertStringIncludes(
    listed.text,
    "\nquick       cannot be read: it is damaged\n",
  );
  const json = JSON.parse((await walrus(["consumers", log, "--json"])).text);
  assertEquals(json.consumers[1], {
    name: "quick",
    lag: 5,
    problem: "it is damaged",
  });
  const removing = ["consumers", log, "--remove", "quick", "--yes"];
  const done = await walrus(removing);
  assertEquals([done.code, done.errors], [0, ""]);
  using wal = openWalSync(log);
  assertEquals(wal.consumers().map(({ name }) => name), ["a-slow.one"]);
});

test("cli consumers: no log and no permission are one line", {
  skip: NO_PERMISSIONS,
}, async () => {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const missing = join(folder.path, "missing");
  await makeLog(log);
  for (const options of [[], ["--remove", "quick", "--yes"]]) {
    const none = await walrus(["consumers", missing, ...options]);
    assertEquals([none.code, none.text], [3, ""]);
    assertOneLine(none.errors, "[SEGMENT_NOT_FOUND]");
  }
  fs.chmodSync(log, 0o000);
  try {
    const child = start(["consumers", log], WITHOUT_RIGHTS);
    const { code, errors } = await finish(child, "");
    assertEquals(code, 3, errors);
    assertOneLine(errors, /permission denied.*\[STORAGE\]/);
  } finally {
    fs.chmodSync(log, 0o700);
  }
});
