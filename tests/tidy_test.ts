import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { assertEquals, assertStringIncludes } from "./_assert.ts";
import { LAYERS, SAME_LAYER_IMPORTS } from "./_layers.ts";
import {
  checkImportDirection,
  checkLayers,
  checkLinks,
  checkMachineTraces,
  checkNames,
  checkSizes,
  checkTags,
  FILE_LINES_MAX,
  FUNCTION_LINES_MAX,
} from "./_tidy.ts";

const ROOT = fileURLToPath(new URL("..", import.meta.url));

describe("tidy: this tree", () => {
  const rules: [string, (root: string) => string[]][] = [
    ["imports point one way", checkImportDirection],
    [
      "files of src/ import from lower layers",
      (root) => checkLayers(root, LAYERS, SAME_LAYER_IMPORTS),
    ],
    ["files and functions are short", checkSizes],
    ["file names say what is inside", checkNames],
    ["links in documents lead somewhere", checkLinks],
    ["every tag of docs/format.md is borne by a test", checkTags],
    ["nothing names a machine or a registry", checkMachineTraces],
  ];
  for (const [title, check] of rules) {
    it(title, () => assertEquals(check(ROOT), []));
  }
});

/** A tree that every rule is content with. */
const CLEAN: Record<string, string> = {
  "mod.ts": 'export * from "./src/log.ts";\nexport * from "./ffi/mod.ts";',
  "cli.ts": 'import "node:fs"; import "./mod.ts"; import "./src/log.ts";',
  "src/log.ts": [
    '/** `import x from "../ffi/mod.ts"` under Deno is an example. */',
    'import type { Storage } from "./storage.ts";',
    'export const hint = "Deno.open, ../ffi/mod.ts"; // not process either',
    "export const url = /^bun:[\"'`/]/; export type A = Storage;",
    "export const named = { process: 1, text: `${hint} Bun` }.process;",
  ].join("\n"),
  "src/crc32.ts": 'import { crc32 } from "node:zlib";\nexport { crc32 };',
  "src/storage.ts": "export interface Storage {}",
  "ffi/mod.ts":
    'import "node:fs";\nimport "./posix.ts";\nimport "../src/storage.ts";',
  "ffi/posix.ts": "export const Deno = process.argv;",
  "testing/mod.ts":
    'import "./disk.ts";\nimport "../src/storage.ts"; // not Deno\'s',
  "testing/disk.ts": "export const pages = 1;",
  "bench/append_bench.ts": 'import "../mod.ts"; import "./_disk.ts";',
  "bench/_disk.ts": 'import "node:fs";',
  "examples/demo.ts": 'import { openWal } from "../mod.ts";',
  "tests/log_test.ts": [
    'import "../src/log.ts"; import "../ffi/mod.ts";',
    'test("[F1] one", () => {});',
    'it(\n  "two " +\n    "[F2][F3]",\n  () => {},\n);',
  ].join("\n"),
  "docs/format.md": "# Format\n\nA rule [F1]. [F2] [F3]\n\n## A `b` c\n",
  "README.md": [
    "[a](docs/format.md) [b](docs/format.md#a-b-c) [c](#read-me)",
    "[d](https://example.com/x) `[e](nowhere.md)`",
    "```md\n[f](nowhere.md)\n```",
    "# Read me",
  ].join("\n"),
};

const CLEAN_LAYERS = [["crc32.ts", "storage.ts"], ["log.ts"]];

/** Runs a check on the clean tree with some files replaced. */
function problemsOf(
  check: (root: string) => string[],
  changes: Record<string, string>,
): string[] {
  const root = mkdtempSync(join(tmpdir(), "walrus-tidy-"));
  try {
    for (const [path, text] of Object.entries({ ...CLEAN, ...changes })) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return check(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** A function whose text goes over `lines` lines. */
function functionOf(head: string, lines: number): string {
  return `${head} {\n${"  if (a) { b(); }\n".repeat(lines - 2)}}\n`;
}

describe("tidy: a planted tree", () => {
  const layers = (root: string) => checkLayers(root, CLEAN_LAYERS, []);
  const all = [
    checkImportDirection,
    layers,
    checkSizes,
    checkNames,
    checkLinks,
    checkTags,
    checkMachineTraces,
  ];

  it("has nothing to object to", () => {
    for (const check of all) assertEquals(problemsOf(check, {}), []);
  });

  const folder = `/${"home"}/`;
  const host = `registry.${"npmjs"}.org`;
  const planted: [
    (root: string) => string[],
    file: string,
    text: string,
    expected?: string,
  ][] = [
    [checkImportDirection, "src/log.ts", 'import "../ffi/mod.ts";'],
    [checkImportDirection, "src/log.ts", 'export * from "../mod.ts";'],
    [checkImportDirection, "src/log.ts", 'import fs from "node:fs";'],
    [checkImportDirection, "src/log.ts", 'import {\n  a,\n} from "bun:ffi";'],
    [checkImportDirection, "src/log.ts", 'await import("node:fs");'],
    [checkImportDirection, "src/log.ts", 'type A = import("node:fs").Stats;'],
    [checkImportDirection, "src/log.ts", 'import "node:zlib";'],
    [checkImportDirection, "src/crc32.ts", 'import "node:fs";'],
    [checkImportDirection, "src/log.ts", "Deno.open();"],
    [checkImportDirection, "src/log.ts", "const a = `${Bun.version}`;"],
    [checkImportDirection, "src/log.ts", 'const a = "//"; process.exit();'],
    [checkImportDirection, "src/log.ts", "globalThis.process;"],
    [checkImportDirection, "src/log.ts", 'globalThis["Deno"];'],
    [checkImportDirection, "ffi/mod.ts", 'import "../src/log.ts";'],
    [checkImportDirection, "ffi/mod.ts", 'import "bun:ffi";'],
    [checkImportDirection, "ffi/mod.ts", 'import "../mod.ts";'],
    [checkImportDirection, "mod.ts", 'import "node:fs";'],
    [checkImportDirection, "cli.ts", 'import "./ffi/mod.ts";'],
    [checkImportDirection, "testing/mod.ts", 'import "../src/log.ts";'],
    [checkImportDirection, "testing/mod.ts", 'import "../mod.ts";'],
    [checkImportDirection, "testing/mod.ts", 'import "../ffi/mod.ts";'],
    [checkImportDirection, "testing/mod.ts", 'import "node:fs";'],
    [checkImportDirection, "testing/mod.ts", "process.exit();"],
    [checkImportDirection, "src/log.ts", 'import "../testing/mod.ts";'],
    [checkImportDirection, "ffi/mod.ts", 'import "../testing/mod.ts";'],
    [checkImportDirection, "mod.ts", 'export * from "./testing/mod.ts";'],
    [checkImportDirection, "bench/append_bench.ts", 'import "../src/log.ts";'],
    [checkImportDirection, "examples/demo.ts", 'import "../ffi/mod.ts";'],
    [checkImportDirection, "examples/demo.ts", 'import "npm:left-pad";'],
    [checkImportDirection, "extra.ts", 'import "./mod.ts";'],
    [layers, "src/storage.ts", 'import "./log.ts";', "layer 0 from 1"],
    [layers, "src/storage.ts", 'import "./crc32.ts";', "layer 0 from 0"],
    [layers, "src/unknown.ts", "", "in no layer"],
    [checkSizes, "src/log.ts", "a;\n".repeat(FILE_LINES_MAX + 1)],
    [checkSizes, "ffi/mod.ts", "a;\n".repeat(FILE_LINES_MAX + 1)],
    [checkSizes, "testing/mod.ts", "a;\n".repeat(FILE_LINES_MAX + 1)],
    ...[
      "function a(b: string, c = d()): Promise<void>",
      "class A { async *#a(b: (c: D) => E): F<G>",
      "const a = async (b): Promise<C> =>",
      "class A { constructor()",
    ].map((head): [(root: string) => string[], string, string, string] => [
      checkSizes,
      "src/log.ts",
      functionOf(head, FUNCTION_LINES_MAX + 1),
      "src/log.ts:1: a function of 71 lines",
    ]),
    ...["utils", "_helpers", "common", "misc"].map((
      name,
    ): [(root: string) => string[], string, string] => [
      checkNames,
      `tests/${name}.ts`,
      "",
    ]),
    [checkLinks, "README.md", "[a](docs/nowhere.md)", "no such file"],
    [checkLinks, "docs/a.md", "[a](README.md)", "no such file"],
    [checkLinks, "README.md", "[a](docs/format.md#x)", "no such heading"],
    [checkTags, "docs/format.md", "[F1] [F9]", "[F9]"],
    [checkTags, "tests/log_test.ts", "// [F1] [F2] [F3]", "[F1]"],
    [checkMachineTraces, "README.md", `See ${folder}me/x.`, "README.md:1"],
    [checkMachineTraces, ".npmrc", `\nregistry=https://${host}`, ".npmrc:2"],
    [
      checkMachineTraces,
      "package-lock.json",
      `"resol${"ved"}": "x"`,
      "package-lock.json:1",
    ],
  ];
  for (const [check, file, text, expected] of planted) {
    const start = text.slice(0, 50).trim().replace(/\s+/g, " ");
    const name = check === layers ? "checkLayers" : check.name;
    it(`${name}() objects to ${file}: ${start}`, () => {
      const problems = problemsOf(check, { [file]: text });
      assertStringIncludes(problems.join("\n"), expected ?? file);
    });
  }

  it("checkSizes() lets the largest function and file pass", () => {
    const lines = functionOf("function a()", FUNCTION_LINES_MAX);
    const file = "a;\n".repeat(FILE_LINES_MAX);
    const changes = { "src/log.ts": lines, "ffi/mod.ts": file };
    assertEquals(problemsOf(checkSizes, changes), []);
  });

  it("checkLayers() objects to a listed file that is gone", () => {
    const check = (root: string) =>
      checkLayers(root, [...CLEAN_LAYERS, ["gone.ts"]], []);
    assertEquals(problemsOf(check, {}), ["src/gone.ts: listed, not there"]);
  });

  it("checkLayers() lets a listed pair of one layer pass", () => {
    const pairs = ["storage.ts -> crc32.ts"];
    const check = (root: string) => checkLayers(root, CLEAN_LAYERS, pairs);
    const changes = { "src/storage.ts": 'import "./crc32.ts";' };
    assertEquals(problemsOf(check, changes), []);
  });
});
