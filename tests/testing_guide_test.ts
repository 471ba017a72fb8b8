/**
 * The examples of docs/testing-your-program.md and of the documentation in
 * testing/: each one runs here, and prints what it says that it prints.
 *
 * @module
 */

import { describe, it } from "node:test";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { assert, assertEquals, assertRejects } from "./_assert.ts";

const ROOT = new URL("..", import.meta.url);
const GUIDE = "docs/testing-your-program.md";

const MODULES: Record<string, string> = {
  "@walrus/wal": "mod.ts",
  "@walrus/wal/testing": "testing/mod.ts",
};

/** What the examples print, by the place that prints. */
const PRINTED = Symbol.for("walrus.printed");

interface Printed {
  /** What the nth `console.log` printed, joined by commas. */
  readonly logs: string[];
  /** What went to `console.error`. */
  readonly errors: string[];
}

function read(path: string): string {
  return readFileSync(new URL(path, ROOT), "utf8");
}

/** The fenced blocks of a language, in order. */
function blocksOf(markdown: string, language: string): string[] {
  const fence = new RegExp("^```" + language + "\\n([\\s\\S]*?)^```", "gm");
  return [...markdown.matchAll(fence)].map(([, code = ""]) => code);
}

/** The examples in the comments of a file, with the text before each. */
function examplesOf(path: string): { title: string; code: string }[] {
  const comments = [...read(path).matchAll(/\/\*\*[\s\S]*?\*\//g)]
    .map(([comment]) => comment.replace(/^ *\/?\*+\/? ?/gm, ""));
  return comments.flatMap((comment) => {
    const titles = [...comment.matchAll(/@example (.*)/g)];
    return blocksOf(comment, "ts").map((code, nth) => ({
      title: titles[nth]?.[1] ?? "an example without a title",
      code,
    }));
  });
}

/** Runs an example as a module of its own, in this runtime. */
async function run(code: string): Promise<Printed> {
  const printed: Printed = { logs: [], errors: [] };
  const holder = globalThis as unknown as Record<symbol, Printed>;
  holder[PRINTED] = printed;
  let nth = 0;
  const module = code
    .replaceAll(/(from ")(@walrus\/[^"]+)"/g, (_, from, name) => {
      const path = MODULES[name];
      assert(path !== undefined, `${name} is no module of the package`);
      return `${from}${new URL(path, ROOT)}"`;
    })
    .replaceAll("console.log(", () => `print(${nth++}, `);
  const head = `const printed = globalThis[Symbol.for("walrus.printed")];
const print = (nth, ...words) => {
  const before = printed.logs[nth];
  const text = words.join(" ");
  printed.logs[nth] = before === undefined ? text : before + ", " + text;
};
const console = { error: (text) => void printed.errors.push(text) };
`;
  const folder = mkdtempSync(join(tmpdir(), "walrus-guide-"));
  try {
    const file = join(folder, "example.ts");
    writeFileSync(file, `// deno-lint-ignore-file\n${head}${module}`);
    await import(pathToFileURL(file).href);
  } finally {
    rmSync(folder, { recursive: true });
  }
  return printed;
}

/** What the comments behind `console.log` say. */
function expectedOf(code: string): string[] {
  return code.split("\n").filter((line) => line.includes("console.log("))
    .map((line) => {
      const said = /\);\s*\/\/ (.*)$/.exec(line)?.[1];
      assert(
        said !== undefined,
        `"${line.trim()}" does not say what it prints`,
      );
      return said;
    });
}

async function check(code: string): Promise<Printed> {
  const printed = await run(code);
  assertEquals(printed.logs, expectedOf(code));
  return printed;
}

/** A message without what a change of the log's calls would change. */
function outline(message: string): string[] {
  return message.trim().split("\n").map((line) =>
    line.replace(/call \d+, \w+ \S+:/, "call #:")
      .replace(/"\d+\.\w+"/, "#").replaceAll(/\d+/g, "#")
  );
}

const options = { timeout: 60_000 };

describe(GUIDE, () => {
  it("every example runs, one after the other", options, async () => {
    const guide = read(GUIDE);
    const blocks = blocksOf(guide, "ts");
    assert(blocks.length >= 4, `${blocks.length} examples`);
    const { errors } = await check(blocks.join("\n"));
    const [shown] = blocksOf(guide, "text");
    assertEquals(errors.length, 1);
    // What it shows of the error is what the error says, but for numbers.
    const [said, replay, ...left] = outline(errors[0]!);
    const [saidHere, replayHere, ...leftHere] = outline(shown!);
    assertEquals([said, replay], [saidHere, replayHere]);
    assert(leftHere.length > 0 && left.length > 0);
    for (const line of leftHere) {
      assert(line.startsWith("  the power cut left "), line);
    }
  });

  it("is short", () => {
    const lines = read(GUIDE).trimEnd().split("\n").length;
    assert(lines <= 120, `${lines} lines`);
  });
});

describe("the documentation of testing/", () => {
  const folder = fileURLToPath(new URL("testing", ROOT));
  let count = 0;
  for (const name of readdirSync(folder).sort()) {
    for (const { title, code } of examplesOf(`testing/${name}`)) {
      count++;
      it(`${name}: ${title}`, options, () => check(code).then(() => {}));
    }
  }

  it("has examples", () => assert(count >= 8, `${count} examples`));
});

describe("an example", () => {
  const imports = 'import { openWal } from "@walrus/wal";\n';

  it("fails when it prints something else", async () => {
    await assertRejects(() => check("console.log(1 + 1); // 3\n"));
    await check("console.log(1 + 1); // 2\n");
  });

  it("fails when it throws or names what is not there", async () => {
    await assertRejects(() => check(`${imports}throw new Error("no");\n`));
    await assertRejects(() =>
      check(`${imports.replace("openWal", "noWal")}noWal;\n`)
    );
  });
});
