/**
 * docs/testing.md names the suites and the mutants as their lists do: it
 * cannot drift.
 *
 * @module
 */

import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { assert, assertEquals } from "./_assert.ts";

const ROOT = new URL("../", import.meta.url);
const DOCUMENT = readFileSync(new URL("docs/testing.md", ROOT), "utf8");

interface Mutant {
  readonly name: string;
  readonly killer: string;
  readonly smoke?: boolean;
  readonly edits: readonly (readonly [string, string, string])[];
}

interface Suite {
  readonly id: string;
  readonly file: string;
  readonly smoke: number | string;
}

/** A module of tools/, which has no types. */
async function load<T>(path: string, name: string): Promise<T> {
  const module = await import(new URL(path, ROOT).href);
  return module[name] as T;
}

/** The cells of the table that follows a heading. */
function rowsOf(heading: string): string[][] {
  const [, section = ""] = DOCUMENT.split(`## ${heading}\n`);
  const [body = ""] = section.split("\n## ");
  const lines = body.split("\n").filter((line) => line.startsWith("|"));
  return lines.slice(2).map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim())
  );
}

test("docs/testing.md has every mutant and the suite that kills it", async () => {
  const mutants = await load<Mutant[]>("tools/mutants/table.mjs", "MUTANTS");
  const expected = mutants.map(({ name, killer }) => [name, killer]);
  assertEquals(rowsOf("Which suite kills which defect"), expected);
  const suites = await load<Suite[]>("tools/trust_suites.mjs", "SUITES");
  const listed = suites.find(({ id }) => id === "G-1")?.smoke;
  assertEquals(mutants.filter(({ smoke }) => smoke).length, listed);
});

test("docs/testing.md has every suite and its file", async () => {
  const suites = await load<Suite[]>("tools/trust_suites.mjs", "SUITES");
  const found = rowsOf("The suites").map(([id, , file]) => [id, file]);
  assertEquals(found, suites.map(({ id, file }) => [id, `\`${file}\``]));
});

test("every mutant names a suite, and a text that is there just once", async () => {
  const mutants = await load<Mutant[]>("tools/mutants/table.mjs", "MUTANTS");
  const killers = await load<Record<string, Suite>>(
    "tools/mutants/suites.mjs",
    "KILLERS",
  );
  assert(new Set(mutants.map(({ name }) => name)).size === mutants.length);
  for (const { name, killer, edits } of mutants) {
    const file = killers[killer]?.file;
    assert(file !== undefined && existsSync(new URL(file, ROOT)), name);
    for (const [path, source, replacement] of edits) {
      const text = readFileSync(new URL(path, ROOT), "utf8");
      assertEquals(text.split(source).length - 1, 1, `${name}: ${path}`);
      assert(source !== replacement, name);
    }
  }
});
