/**
 * The rules of the source tree, as functions of a root folder that return
 * what they object to. They read text; nothing here knows TypeScript beyond
 * comments, strings and brackets.
 *
 * @module
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, normalize, relative, sep } from "node:path";

/** The most lines that a file of `src/`, `ffi/` or `testing/` may have. */
export const FILE_LINES_MAX = 400;

/** The most lines that a function of these may have. */
export const FUNCTION_LINES_MAX = 70;

/** What a file of `ffi/` or `testing/` may import from the core. */
const PORT_IMPORTS = ["src/assert.ts", "src/errors.ts", "src/storage.ts"];

/** The only built-in module that the core imports, and where. */
const CORE_BUILT_IN = { file: "src/crc32.ts", module: "node:zlib" };

/** File names that say nothing about what is inside. */
const EMPTY_NAMES = /^_?(utils?|helpers?|common|misc|shared|lib|stuff)\b/;

/** Folders that are not the package's: what `.gitignore` names. */
const FOREIGN_FOLDERS = [
  ".cache",
  ".git",
  "coverage",
  "node_modules",
  "wal_data",
];

/** Who may import whom. */
export function checkImportDirection(root: string): string[] {
  const problems: string[] = [];
  for (const file of listFiles(root).filter(isSource)) {
    const code = readCode(root, file);
    for (const specifier of importsOf(code)) {
      const target = resolveImport(file, specifier);
      const reason = refusal(file, target);
      if (reason !== undefined) {
        problems.push(`${file}: imports "${specifier}": ${reason}`);
      }
    }
    if (!/^(src|testing)\//.test(file)) continue;
    for (const name of runtimeNames(blankStrings(code))) {
      problems.push(
        `${file}: names ${name}: ${dirname(file)}/ knows no runtime`,
      );
    }
  }
  return problems;
}

/** Files of `src/` import from lower layers only, and each has its layer. */
export function checkLayers(
  root: string,
  layers: readonly (readonly string[])[],
  sameLayerImports: readonly string[],
): string[] {
  const layerOf = new Map<string, number>(
    layers.flatMap((files, layer) =>
      files.map((file) => [`src/${file}`, layer] as const)
    ),
  );
  const problems: string[] = [];
  const files = listFiles(root).filter((file) =>
    file.startsWith("src/") && isSource(file)
  );
  for (const file of layerOf.keys()) {
    if (!files.includes(file)) problems.push(`${file}: listed, not there`);
  }
  for (const file of files) {
    const layer = layerOf.get(file);
    if (layer === undefined) {
      problems.push(`${file}: in no layer of tests/_layers.ts`);
      continue;
    }
    for (const specifier of importsOf(readCode(root, file))) {
      const target = resolveImport(file, specifier);
      const targetLayer = layerOf.get(target);
      if (targetLayer === undefined || targetLayer < layer) continue;
      const pair = `${file} -> ${target}`.replaceAll("src/", "");
      if (targetLayer === layer && sameLayerImports.includes(pair)) continue;
      problems.push(
        `${file}: imports ${target}: layer ${layer} from ${targetLayer}`,
      );
    }
  }
  return problems;
}

/** Files and functions that a reader takes in at once. */
export function checkSizes(root: string): string[] {
  const problems: string[] = [];
  for (const file of listFiles(root)) {
    if (!/^(src|ffi|testing)\//.test(file) || !isSource(file)) continue;
    const lines = readText(root, file).trimEnd().split("\n").length;
    if (lines > FILE_LINES_MAX) {
      problems.push(`${file}: ${lines} lines, expected <= ${FILE_LINES_MAX}`);
    }
    for (const found of functionsOf(blankStrings(readCode(root, file)))) {
      if (found.lines <= FUNCTION_LINES_MAX) continue;
      problems.push(
        `${file}:${found.line}: a function of ${found.lines} lines, ` +
          `expected <= ${FUNCTION_LINES_MAX}`,
      );
    }
  }
  return problems;
}

/** A file's name says what is inside. */
export function checkNames(root: string): string[] {
  return listFiles(root).filter(isSource)
    .filter((file) => EMPTY_NAMES.test(basename(file)))
    .map((file) => `${file}: a name that says nothing`);
}

/** Relative links of documents lead somewhere, anchors included. */
export function checkLinks(root: string): string[] {
  const problems: string[] = [];
  for (const file of listFiles(root).filter((file) => file.endsWith(".md"))) {
    const prose = blankFences(readText(root, file));
    for (const [, link = ""] of prose.matchAll(/\]\(<?([^)\s>]+)/g)) {
      if (/^[a-z][a-z0-9+.-]*:/i.test(link)) continue;
      const [path = "", anchor] = link.split("#");
      const target = path === ""
        ? file
        : normalize(join(dirname(file), decodeURI(path)));
      if (!existsSync(join(root, target))) {
        problems.push(`${file}: links to ${link}: no such file`);
      } else if (
        anchor && target.endsWith(".md") &&
        !anchorsOf(readText(root, target)).includes(anchor)
      ) {
        problems.push(`${file}: links to ${link}: no such heading`);
      }
    }
  }
  return problems;
}

/** Every tag like `[F7]` of docs/format.md stands in the title of a test. */
export function checkTags(root: string): string[] {
  const document = "docs/format.md";
  if (!existsSync(join(root, document))) return [];
  const titles = listFiles(root)
    .filter((file) => file.startsWith("tests/") && isSource(file))
    .flatMap((file) => titlesOf(readCode(root, file))).join("\n");
  const tags = new Set(readText(root, document).match(/\[F\d+\]/g));
  return [...tags].filter((tag) => !titles.includes(tag))
    .map((tag) => `${document}: no test bears ${tag}`);
}

/** Nothing in a text file is true on one machine only. */
export function checkMachineTraces(root: string): string[] {
  // Put together here, so that this file passes its own rule.
  const folders = ["home", "root", "work", "Users"].join("|");
  const hosts = ["npmjs", "npm\\.jsr", "yarnpkg", "npmmirror"].join("|");
  const rules = [
    { trace: new RegExp(`(?<![\\w.*-])/(${folders})/`), what: "a path" },
    { trace: new RegExp(`\\b(${hosts})\\.\\w+`), what: "a registry's host" },
    { trace: new RegExp(`"resol${"ved"}":`), what: "a registry's address" },
  ];
  const problems: string[] = [];
  for (const file of listFiles(root)) {
    const text = readText(root, file);
    if (text.includes("\0")) continue;
    for (const [index, line] of text.split("\n").entries()) {
      for (const { trace, what } of rules) {
        if (trace.test(line)) problems.push(`${file}:${index + 1}: ${what}`);
      }
    }
  }
  return problems;
}

/** Why `file` may not import `target`, if it may not. */
function refusal(file: string, target: string): string | undefined {
  const builtIn = target.startsWith("node:");
  const from = file.split("/")[0] ?? "";
  switch (from) {
    case "src":
      if (target.startsWith("src/")) return undefined;
      if (file === CORE_BUILT_IN.file && target === CORE_BUILT_IN.module) {
        return undefined;
      }
      return "the core imports the core only";
    case "ffi":
      if (builtIn || target.startsWith("ffi/")) return undefined;
      if (PORT_IMPORTS.includes(target)) return undefined;
      return `ffi/ imports node:, ffi/ and ${PORT_IMPORTS.join(", ")} only`;
    case "testing":
      if (target.startsWith("testing/")) return undefined;
      if (PORT_IMPORTS.includes(target)) return undefined;
      return `testing/ imports testing/ and ${PORT_IMPORTS.join(", ")} only`;
    case "mod.ts":
      if (/^(src|ffi)\//.test(target)) return undefined;
      return "mod.ts imports src/ and ffi/ only";
    case "cli.ts":
    case "cli":
      if (builtIn || target === "mod.ts") return undefined;
      if (/^(src|cli)\//.test(target)) return undefined;
      return "the command line imports node:, mod.ts, src/ and cli/ only";
    case "bench":
    case "examples":
      if (builtIn || target === "mod.ts") return undefined;
      if (/^(src\/storage|testing\/mod)\.ts$/.test(target)) return undefined;
      if (target.startsWith(`${from}/`)) return undefined;
      return `${from}/ imports node:, ${from}/ and what the package exports`;
    case "tests":
      return undefined;
    default:
      return "the file has no place in the tree";
  }
}

function listFiles(root: string): string[] {
  const files: string[] = [];
  const walk = (folder: string): void => {
    for (const item of readdirSync(folder, { withFileTypes: true })) {
      const path = join(folder, item.name);
      if (item.isDirectory()) {
        if (!FOREIGN_FOLDERS.includes(item.name)) walk(path);
      } else if (item.isFile() && !item.name.endsWith(".log")) {
        files.push(relative(root, path).split(sep).join("/"));
      }
    }
  };
  walk(root);
  return files.sort();
}

function isSource(file: string): boolean {
  return file.endsWith(".ts");
}

function readText(root: string, file: string): string {
  return readFileSync(join(root, file), "utf8");
}

function readCode(root: string, file: string): string {
  return blankComments(readText(root, file));
}

/** Every module that the code names in an import or re-export. */
function importsOf(code: string): string[] {
  const named =
    /(?:(?<!["'])\bfrom\s*|\bimport\s*\(?\s*|\brequire\s*\(\s*)(["'])([^"'\n]+)\1/g;
  return [...code.matchAll(named)].map((match) => match[2] ?? "");
}

function resolveImport(file: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  return normalize(join(dirname(file), specifier)).split(sep).join("/");
}

function runtimeNames(code: string): string[] {
  const names =
    /(?<![\w$.#])(Deno|Bun|process)\b(?!\s*\??:)|globalThis\s*\??\.\s*(Deno|Bun|process)\b|\bglobalThis\s*\[/g;
  return [...code.matchAll(names)].map((match) => match[0]);
}

/** The titles of `test`, `it` and `describe`, literals joined by `+` whole. */
function titlesOf(code: string): string[] {
  const literal =
    /"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`/.source;
  const call = new RegExp(
    `\\b(?:test|it|describe)(?:\\.\\w+)*\\(\\s*` +
      `((?:${literal})(?:\\s*\\+\\s*(?:${literal}))*)`,
    "g",
  );
  return [...code.matchAll(call)].map((match) => match[1] ?? "");
}

/** Where functions begin, and over how many lines they go. */
function functionsOf(code: string): { line: number; lines: number }[] {
  const lineOf = (offset: number) => code.slice(0, offset).split("\n").length;
  const open: (number | undefined)[] = [];
  const found: { line: number; lines: number }[] = [];
  for (let offset = 0; offset < code.length; offset++) {
    if (code[offset] === "{") open.push(functionStart(code, offset));
    if (code[offset] !== "}") continue;
    const start = open.pop();
    if (start === undefined) continue;
    const line = lineOf(start);
    found.push({ line, lines: lineOf(offset) - line + 1 });
  }
  return found;
}

/** Where the function begins whose body opens at `offset`, if one does. */
function functionStart(code: string, offset: number): number | undefined {
  const before = code.slice(0, offset).trimEnd();
  if (before.endsWith("=>")) return before.length;
  // A parameter list, and perhaps a return type without brackets.
  const end = /\)(\s*:[^;{}()=]*)?$/.exec(before)?.index;
  if (end === undefined) return undefined;
  let depth = 0;
  for (let at = end; at >= 0; at--) {
    if (before[at] === ")") depth++;
    if (before[at] === "(" && --depth === 0) {
      const word = /(\w+)\s*$/.exec(before.slice(0, at))?.[1] ?? "";
      const control = /^(if|for|while|switch|catch|await|with)$/.test(word);
      return control ? undefined : at;
    }
  }
  return undefined;
}

/** The code with comments as spaces; lines stay where they are. */
function blankComments(code: string): string {
  return code.replace(
    TOKENS,
    (token) => /^\/[/*]/.test(token) ? blank(token) : token,
  );
}

/** The code with the insides of strings and patterns as spaces. */
function blankStrings(code: string): string {
  return code.replace(TOKENS, (token) => {
    if (token.startsWith("`")) return blankTemplate(token);
    return blank(token);
  });
}

/** What `${…}` holds in a template is code, and stays. */
function blankTemplate(token: string): string {
  return token.replace(
    /\$\{([^{}`]*)\}|[^\n]/g,
    (_, inner?: string) => inner === undefined ? " " : `  ${inner} `,
  );
}

function blank(text: string): string {
  return text.replace(/[^\n]/g, " ");
}

/** Comments, strings, templates, and patterns where an operand may begin. */
const TOKENS = new RegExp(
  [
    /\/\/[^\n]*/,
    /\/\*[\s\S]*?\*\//,
    /"(?:\\.|[^"\\\n])*"/,
    /'(?:\\.|[^'\\\n])*'/,
    /`(?:\\[\s\S]|\$\{(?:[^{}`]|`[^`]*`|\{[^{}]*\})*\}|[^`\\])*`/,
    /(?<=[=(,:[!&|?{};]\s*|\breturn\s+)\/(?![*/])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/,
  ].map((part) => part.source).join("|"),
  "g",
);

function blankFences(markdown: string): string {
  return markdown.replace(/^```[\s\S]*?^```/gm, blank)
    .replace(/`[^`\n]*`/g, blank);
}

/** The anchors of a document's headings, as GitHub and JSR make them. */
function anchorsOf(markdown: string): string[] {
  const headings = markdown.replace(/^```[\s\S]*?^```/gm, blank)
    .matchAll(/^#{1,6}\s+(.+?)\s*$/gm);
  return [...headings].map(([, title = ""]) =>
    title.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").replace(/\s/g, "-")
  );
}
