/**
 * F-2: folders that somebody put odd things into. What the log needs is
 * refused by type, what it does not need is left alone; nothing is waited
 * for, nothing in the folder changes, and nothing out of it is touched.
 *
 * @module
 */
import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import process from "node:process";
import { after, before, describe, it } from "node:test";
import { filesStorage, openWal } from "../mod.ts";
import { assert, assertEquals } from "./_assert.ts";
import { snapshot } from "./_folder_snapshot.ts";
import {
  closeSockets,
  type Name,
  NAMES,
  possibleThings,
  type Thing,
} from "./_hostile_folders.ts";
import { HostileProcess } from "./_hostile_process.ts";
import { HAS_FFI, temporaryFolder, THIS } from "./_storages.ts";
import { SEGMENT_BYTES } from "./_wal.ts";

const KINDS = (["mapped", "files"] as const).filter((kind) =>
  kind === "files" || HAS_FFI
);
const READS = ["reader", "salvage", "dump", "stat", "verify"];
const WRITES = ["open", "openSync"];
const TIMEOUT_MS = 300_000;
const NOBODY = 65534;
const AS_NOBODY = [
  ...[`--reuid=${NOBODY}`, `--regid=${NOBODY}`],
  ...["--clear-groups", "--bounding-set=-all"],
];
const QUICK = fs.existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
const GO = join(import.meta.dirname!, "fixtures", "go");
const CLI = join(import.meta.dirname!, "..", "cli.ts");
const ENTRIES = 9;
/** The name that the next segment gets. */
const BEHIND = `segment_${"4".padStart(20, "0")}.wal`;

/** A closed log of three segments and a consumer; or a torn one. */
async function makeLog(path: string, torn: boolean): Promise<void> {
  const options = { storage: filesStorage(), segmentBytes: SEGMENT_BYTES };
  const wal = await openWal(path, options);
  for (let i = 1; i <= ENTRIES; i++) {
    await wal.append(`entry ${i}`);
    if (i % 3 === 0 && i < ENTRIES) await wal.rotate();
  }
  const consumer = await wal.consumer("reader");
  await consumer.ack(2);
  if (!torn) return await wal.close();
  await wal.append("torn off", { durable: false });
  const open = `${path}-open`;
  fs.cpSync(path, open, { recursive: true });
  await wal.close();
  fs.rmSync(path, { recursive: true });
  fs.renameSync(open, path);
  fs.rmSync(join(path, "LOCK.owner"));
  // Of what a living writer shows, a damaged frame would not be a torn one.
  fs.rmSync(join(path, "live"));
  const last = join(path, `segment_${"3".padStart(20, "0")}.wal`);
  const bytes = fs.readFileSync(last);
  bytes[bytes.indexOf("torn off")]! ^= 1;
  fs.writeFileSync(last, bytes);
}

/** A folder with a log, and a place out of it. */
class Scene implements Disposable {
  readonly root: string;
  readonly log: string;
  readonly outside: string;

  /** In memory where that does: some thousand syncs are waited for here. */
  constructor(template?: string, thing?: Thing) {
    // Devices cannot be opened where memory is mounted as usual.
    const parent = thing?.needsRoot ? tmpdir() : QUICK;
    this.root = fs.mkdtempSync(join(parent, "walrus-"));
    this.log = join(this.root, "log");
    this.outside = join(this.root, "outside");
    fs.mkdirSync(this.outside);
    if (template === undefined) return;
    fs.cpSync(template, this.log, { recursive: true });
  }

  /** Puts a thing under a name; false if that cannot be. */
  async put(name: string, thing: Thing): Promise<boolean> {
    const path = join(this.log, name);
    const bait = join(this.outside, "bait");
    if (fs.existsSync(path)) fs.renameSync(path, bait);
    else fs.writeFileSync(bait, "somebody's");
    if (thing.regular && fs.statSync(bait).isDirectory()) {
      if (thing.name !== "sparse file of a terabyte") return false;
    }
    await thing.put({ path, bait, outside: this.outside });
    return true;
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.root, { recursive: true, force: true });
  }
}

/** What a child said is as it should be; the failure shows both. */
function assertSaid(said: string, expected: RegExp, what: string): void {
  assert(expected.test(said), `${what}: ${said}`);
}

/** Refused by a typed error that names the thing. */
function assertRefused(said: string, name: string, what: string): void {
  assertSaid(
    said,
    /^(STORAGE E[A-Z]+|CORRUPTED -|UNSUPPORTED_FORMAT -|LOCKED -) Cannot /,
    what,
  );
  assert(said.includes(basename(name)), `${what}, not named: ${said}`);
  assert(said.includes("expected"), `${what}: ${said}`);
}

/** What every use of the log comes to with a thing under a name. */
async function check(
  child: HostileProcess,
  scene: Scene,
  { name, role, regular, there }: Name,
  thing: Thing,
): Promise<void> {
  const sound = there && thing.sound === true;
  // Ten bytes of somebody's are no pages of zeros.
  const foreign = thing.sound === true && name === BEHIND;
  const passes = sound || (thing.regular && regular === "ignored" && !foreign);
  const before = snapshot(scene.root);
  for (const verb of READS) {
    const what = `${verb}: ${name} is a ${thing.name}`;
    const said = await child.ask(verb, scene.log);
    assert(!said.startsWith("BUG"), `${what}: ${said}`);
    if (role === "refused" && !passes) {
      // A salvage and a verification go on where they can.
      const goesOn = /^(salvaged|exit 1)/.test(said) &&
        (verb === "salvage" || verb === "verify");
      if (!goesOn) assertRefused(said, name, what);
    } else {
      assertSaid(said, /^(clean 9|salvaged 0|exit 0)/, what);
    }
  }
  assertEquals(snapshot(scene.root), before, `read, ${name}: ${thing.name}`);
  for (const verb of WRITES) {
    const what = `${verb}: ${name} is a ${thing.name}`;
    const said = await child.ask(verb, scene.log);
    if (role !== "ignored" && !passes) {
      assertRefused(said, name, what);
      assertEquals(snapshot(scene.root), before, what);
      continue;
    }
    assertSaid(said, /^clean 9$/, what);
    checkOutside(scene, name, thing, before, what);
    if (verb === "open") {
      assertEquals(await child.ask("openSync", scene.log), "clean 9");
    }
    return;
  }
}

/** The log was opened: what is not its own is as before. */
function checkOutside(
  scene: Scene,
  name: string,
  thing: Thing,
  before: Record<string, string>,
  what: string,
): void {
  const after = snapshot(scene.root);
  // These are written in place, through whatever other names they have.
  const through = thing.sound === true && /^(segment_|live$)/.test(name);
  const kept = Object.keys(before).filter((path) =>
    (path.startsWith("./outside") && !through) ||
    path.startsWith("./log/notes") ||
    (!thing.regular && path.startsWith(`./log/${name}`))
  );
  for (const path of kept) {
    assertEquals(after[path], before[path], `${what}: ${path}`);
  }
  const outside = (found: Record<string, string>) =>
    Object.keys(found).filter((path) => path.startsWith("./outside"));
  assertEquals(outside(after), outside(before), what);
}

/** Starts the children of this runtime when the first test wants one. */
const children = new Map<string, HostileProcess>();

function childOf(kind: "mapped" | "files"): HostileProcess {
  const child = children.get(kind) ?? new HostileProcess(kind);
  children.set(kind, child);
  return child;
}

/** The log's folder itself is a thing. */
async function checkFolder(
  child: HostileProcess,
  thing: Thing,
): Promise<void> {
  using scene = new Scene(undefined, thing);
  await thing.put({
    path: scene.log,
    bait: join(scene.outside, "bait"),
    outside: scene.outside,
  });
  const before = snapshot(scene.root);
  for (const verb of [...READS, ...WRITES, "consume"]) {
    const what = `${verb}: the log is a ${thing.name}`;
    const said = await child.ask(verb, scene.log);
    assertSaid(said, /^(STORAGE E[A-Z]+|SEGMENT_NOT_FOUND -) Cannot /, what);
    assert(said.includes(scene.log), `${what}: ${said}`);
  }
  assertEquals(snapshot(scene.root), before, thing.name);
}

/** A writer that has something to keep aside, and no place for it. */
async function checkTorn(
  child: HostileProcess,
  template: string,
  thing: Thing,
): Promise<void> {
  using scene = new Scene(template, thing);
  await scene.put("cut", thing);
  const before = snapshot(scene.root);
  const what = `torn, and cut is a ${thing.name}`;
  const said = await child.ask("open", scene.log);
  assertSaid(said, /^torn 9$/, what);
  checkOutside(scene, "cut", thing, before, what);
  assertEquals(await child.ask("openSync", scene.log), "clean 9", what);
  await closeSockets();
}

/** A consumer is refused; nothing is made where a link leads. */
async function checkConsumer(
  child: HostileProcess,
  template: string,
  name: string,
  thing: Thing,
): Promise<void> {
  using scene = new Scene(template, thing);
  if (!await scene.put(name, thing)) return;
  const before = snapshot(scene.root);
  const what = `consume: ${name} is a ${thing.name}`;
  const said = await child.ask("consume", scene.log);
  assertSaid(said, /^(STORAGE E[A-Z]+|CORRUPTED -) Cannot /, what);
  assert(said.includes(basename(name)), `${what}: ${said}`);
  checkOutside(scene, name, thing, before, what);
  assertEquals(await child.ask("open", scene.log), "clean 9", what);
  await closeSockets();
}

/** What a shell's user sees: one line, and the exit code. */
function walrus(verb: string, log: string): { code: number; text: string } {
  const flags = THIS.name === "deno" ? ["run", "-A", "--no-check"] : [];
  const run = spawnSync(THIS.path, [...flags, CLI, verb, log], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 120_000,
    killSignal: "SIGKILL",
  });
  assertEquals(run.signal, null, `${verb} waits for ever`);
  return { code: run.status!, text: run.stderr.trim() };
}

/** The names and sizes below a folder, byte by byte as `find` has them. */
function listing(folder: string): string {
  const format = "%P %y %m %s %l\\0";
  const run = spawnSync("find", [folder, "-mindepth", "1", "-printf", format], {
    encoding: "latin1",
  });
  assertEquals(run.status, 0, run.stderr);
  return run.stdout.split("\0").sort().join("\n");
}

/** Names that look like the log's, or like nothing at all. */
const ODD_NAMES: readonly string[] = [
  "segment_00000000000000000001.wal\\n",
  " segment_00000000000000000001.wal",
  "segment_00000000000000000001.WAL",
  "segment_000000000000000000001.wal",
  "segment_00000000000000000000.wal",
  "segment_99999999999999999999.wal",
  "segment_0000000000000000000\\357\\274\\221.wal",
  "segment_00000000000000000001.wal.tmp.tmp",
  "segment_-0000000000000000001.wal",
  "manifest\\377",
  "manifest.-1.tmp",
  "manifest.tmp",
  "\\377\\376\\200",
  "..segment",
  "...",
  "-rf",
  "LOCK.owner.new",
  "consumers/..\\377",
  "consumers/-odd- name",
  "a".repeat(255),
];

/** What nobody may not do, by the mode of a name; and who is refused then. */
const MODES: readonly {
  readonly name: string;
  readonly mode: number;
  readonly refused: readonly string[];
  readonly torn?: boolean;
}[] = [
  { name: "manifest", mode: 0, refused: [...READS, ...WRITES] },
  ...[1, 2, 3].map((number) => ({
    name: `segment_${String(number).padStart(20, "0")}.wal`,
    mode: 0,
    refused: [...READS, ...WRITES],
  })),
  {
    name: `segment_${"3".padStart(20, "0")}.wal`,
    mode: 0o444,
    refused: WRITES,
  },
  { name: "LOCK", mode: 0, refused: WRITES },
  { name: "LOCK", mode: 0o444, refused: WRITES },
  { name: "consumers", mode: 0, refused: WRITES },
  { name: "consumers/reader", mode: 0, refused: WRITES },
  { name: ".", mode: 0o000, refused: [...READS, ...WRITES] },
  { name: ".", mode: 0o300, refused: [...READS, ...WRITES] },
  { name: ".", mode: 0o400, refused: [...READS, ...WRITES] },
  { name: ".", mode: 0o500, refused: WRITES },
  { name: ".", mode: 0o500, refused: WRITES, torn: true },
];

/** Why this cannot be done as nobody; false if it can. */
function whyNotNobody(): string | false {
  if (process.getuid?.() !== 0) return "needs root, to give its rights away";
  const probe = spawnSync("setpriv", [...AS_NOBODY, THIS.path, "--version"]);
  return probe.status === 0 ? false : "nobody cannot run this runtime";
}

describe("F-2 hostile folders", () => {
  if (process.platform !== "linux") {
    it("refused", { skip: "needs FIFOs, links and find" }, () => {});
    return;
  }
  const templates = temporaryFolder();
  const closed = join(templates.path, "closed");
  const torn = join(templates.path, "torn");
  before(async () => {
    await makeLog(closed, false);
    await makeLog(torn, true);
  });
  after(async () => {
    for (const child of children.values()) await child[Symbol.asyncDispose]();
    templates[Symbol.dispose]();
  });
  const { things, left } = possibleThings();
  const special = things.filter(({ regular }) => !regular);
  const timeout = TIMEOUT_MS;

  it("devices are tried, too", {
    skip: left > 0 && `needs root: ${left * NAMES.length} cases were not run`,
  }, () => assertEquals(special.length, 9));

  for (const kind of KINDS) {
    for (const one of NAMES) {
      it(`${one.name} that is none: ${one.role} [${kind}]`, {
        timeout,
      }, async () => {
        for (const thing of things) {
          using scene = new Scene(closed, thing);
          if (!await scene.put(one.name, thing)) continue;
          await check(childOf(kind), scene, one, thing);
          await closeSockets();
        }
      });
    }

    it(`a log that is no folder: refused [${kind}]`, { timeout }, async () => {
      for (const thing of things) {
        // Through a link to a folder is a way to a log; no file was there.
        if (thing.name === "symbolic link to a folder" || thing.sound) continue;
        if (thing.name === "right beginning of a terabyte") continue;
        if (thing.name === "folder") continue;
        await checkFolder(childOf(kind), thing);
        await closeSockets();
      }
    });

    it(`a torn log without a place for what is cut [${kind}]`, {
      timeout,
    }, async () => {
      for (const thing of special) {
        if (thing.name !== "folder") {
          await checkTorn(childOf(kind), torn, thing);
        }
      }
    });

    it(`a consumer that leads elsewhere: refused [${kind}]`, {
      timeout,
    }, async () => {
      for (const name of ["consumers", "consumers/reader"]) {
        for (const thing of special) {
          // A folder is what consumers are in.
          if (name === "consumers" && thing.name === "folder") continue;
          await checkConsumer(childOf(kind), closed, name, thing);
        }
      }
    });

    it(`names of other bytes are left alone [${kind}]`, {
      timeout,
    }, async () => {
      using scene = new Scene(closed);
      for (const name of ODD_NAMES) {
        // The shell would drop a line's end; and no path here has a percent.
        const script = 'p=$(printf -- "$1"; echo x); ' +
          'printf "somebody\'s" > "${p%x}"';
        const path = `${scene.log}/${name}`;
        const run = spawnSync("sh", ["-c", script, "sh", path]);
        assertEquals(run.status, 0, String(run.stderr));
      }
      const others = (): string =>
        listing(scene.log).split("\n").filter((line) => / 10 $/.test(line))
          .join("\n");
      const before = others();
      const count = before.split("\n").length;
      assertEquals(count, ODD_NAMES.length);
      for (const verb of [...READS, "consume", ...WRITES]) {
        const said = await childOf(kind).ask(verb, scene.log);
        assertSaid(said, /^(clean 9|salvaged 0|exit 0|consumed 9)/, verb);
        assertEquals(others(), before, verb);
      }
    });

    it(`a folder of the Go library: refused, unchanged [${kind}]`, {
      timeout,
    }, async () => {
      for (const format of ["binary", "json"]) {
        using scene = new Scene(join(GO, format, "log"));
        const before = snapshot(scene.root);
        for (const verb of [...READS, ...WRITES, "consume"]) {
          const said = await childOf(kind).ask(verb, scene.log);
          assertSaid(said, /^UNSUPPORTED_FORMAT - Cannot .*Go library/, verb);
        }
        assertEquals(snapshot(scene.root), before, format);
      }
    });
  }

  const notNobody = whyNotNobody();
  for (const kind of KINDS) {
    it(`what may not be read or written: refused [${kind}]`, {
      timeout,
      skip: notNobody &&
        `${notNobody}: ${MODES.length} cases were not run`,
    }, async () => {
      using home = temporaryFolder();
      fs.chownSync(home.path, NOBODY, NOBODY);
      const environment = { HOME: home.path, DENO_DIR: home.path };
      const before = ["setpriv", ...AS_NOBODY];
      await using child = new HostileProcess(kind, before, environment);
      for (const one of MODES) {
        using scene = new Scene(one.torn ? torn : closed);
        fs.chmodSync(scene.root, 0o755);
        spawnSync("chown", ["-R", `${NOBODY}:${NOBODY}`, scene.log]);
        fs.chmodSync(join(scene.log, one.name), one.mode);
        const before = snapshot(scene.root);
        for (const verb of [...READS, ...WRITES]) {
          const mode = one.mode.toString(8);
          const what = `${verb}: ${one.name} has mode ${mode}`;
          const said = await child.ask(verb, scene.log);
          if (!one.refused.includes(verb)) {
            assertSaid(said, /^(clean 9|salvaged 0|exit 0)/, what);
          } else if (!/^(salvaged|exit 1)/.test(said)) {
            assertSaid(said, /^STORAGE EACCES Cannot .*expected/, what);
            const name = one.name === "." ? scene.log : one.name;
            assert(said.includes(name), `${what}, not named: ${said}`);
          }
        }
        assertEquals(snapshot(scene.root), before, one.name);
      }
    });
  }

  it("the command line says it in one line", { timeout }, async () => {
    for (const thing of special) {
      const nth = special.indexOf(thing);
      const { name } = NAMES[nth % 4]!;
      const verb = ["dump", "stat", "verify"][nth % 3]!;
      using scene = new Scene(closed, thing);
      await scene.put(name, thing);
      const before = snapshot(scene.root);
      const { code, text } = walrus(verb, scene.log);
      const what = `${verb}, ${name} is a ${thing.name}: ${code}, ${text}`;
      // A verification goes on where it can.
      const refused = code === 3 && text.includes(name) &&
        /^walrus: Cannot .*expected [^\n]*\[STORAGE\]$/.test(text);
      assert(refused || (verb === "verify" && code === 1), what);
      assertEquals(snapshot(scene.root), before, thing.name);
      await closeSockets();
    }
  });
});
