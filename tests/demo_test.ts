/**
 * The demo, with a small text: what it checks must hold everywhere.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openWalSync } from "../mod.ts";
import { assert, assertEquals, assertStringIncludes } from "./_assert.ts";
import { STORAGES, temporaryFolder, THIS } from "./_storages.ts";

const DEMO = join(import.meta.dirname!, "..", "examples", "demo.ts");

function runDemo(
  args: readonly string[],
): { code: number | null; text: string; errors: string } {
  const flags = THIS.name === "deno" ? ["run", "-A", "--no-check"] : [];
  const { status, stdout, stderr } = spawnSync(
    THIS.path,
    [...flags, DEMO, ...args],
    { encoding: "utf8" },
  );
  return { code: status, text: stdout, errors: stderr };
}

const TEXT: string = Array.from({ length: 400 }, (_, i) => {
  return `${i} ${"word ".repeat(i % 30)}`;
}).join("\n");

for (const { kind } of STORAGES.filter(({ real }) => real)) {
  test(`demo: nothing acknowledged is lost on ${kind} storage`, () => {
    using folder = temporaryFolder();
    const file = join(folder.path, "text");
    const keep = join(folder.path, "kept");
    fs.writeFileSync(file, TEXT);
    const args = [file, "--keep", keep, "--storage", kind];
    const { code, text, errors } = runDemo(args);
    assertEquals([code, errors], [0, ""], text);
    assertStringIncludes(text, `${kind} storage`);
    assertStringIncludes(text, "400 of 400 lines, each where it belongs");
    assertStringIncludes(text, "All checks hold.");
    assert(!text.includes("FAIL"), text);
    using wal = openWalSync(join(keep, "log"));
    const lines = [...wal].map((entry) => entry.text());
    assertEquals(lines, TEXT.split("\n"));
  });
}

test("demo: its folder is gone afterwards", () => {
  using folder = temporaryFolder();
  const file = join(folder.path, "text");
  fs.writeFileSync(file, TEXT);
  const before = demoFolders();
  assertEquals(runDemo(["--file", file]).code, 0);
  assertEquals(demoFolders(), before);
});

function demoFolders(): string[] {
  return fs.readdirSync(tmpdir())
    .filter((name) => name.startsWith("walrus-demo-")).sort();
}

test("demo: what it cannot do is one clear line", () => {
  using folder = temporaryFolder();
  const empty = join(folder.path, "empty");
  fs.writeFileSync(empty, "");
  const missing = join(folder.path, "missing");
  const cases: [string[], string][] = [
    [[missing], `Cannot read "${missing}": there is no such file`],
    [[empty], `"${empty}" is empty, expected lines of text`],
    [[folder.path], "is not a file"],
    [["--storage", "tape"], '--storage is "tape", expected mapped or files'],
    [["--keep", folder.path], "is not empty, expected a new folder"],
  ];
  for (const [args, message] of cases) {
    const { code, text, errors } = runDemo(args);
    assertEquals([code, text], [1, ""], errors);
    assertEquals(errors.trimEnd().split("\n").length, 1, errors);
    assertStringIncludes(errors, `demo: `);
    assertStringIncludes(errors, message);
  }
  assertEquals(runDemo(["--speed"]).code, 2);
});
