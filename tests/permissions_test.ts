import { spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { openWalSync } from "../mod.ts";
import { assertEquals, assertMatch, assertStringIncludes } from "./_assert.ts";
import { temporaryFolder, THIS } from "./_storages.ts";
import { REAL, SEGMENT_BYTES, systemFingerprint, texts } from "./_wal.ts";

const NOBODY = 65534;

/** Root passes by every permission: the child gives its rights away. */
function whySkip(): string | false {
  if (process.platform !== "linux") return "needs setpriv";
  if (process.getuid?.() !== 0) return "needs root, to give rights away";
  const probe = asNobody([THIS.path, "--version"], "/");
  return probe.status === 0
    ? false
    : `nobody cannot run ${THIS.name}: ${probe.stderr || probe.error}`;
}

function asNobody(command: readonly string[], home: string) {
  const drop = [
    `--reuid=${NOBODY}`,
    `--regid=${NOBODY}`,
    "--clear-groups",
    "--bounding-set=-all",
  ];
  return spawnSync("setpriv", [...drop, ...command], {
    encoding: "utf8",
    cwd: "/",
    env: { ...process.env, HOME: home, DENO_DIR: home, NO_COLOR: "1" },
  });
}

describe("permissions", () => {
  const skip = whySkip();
  const script = join(import.meta.dirname!, "_children", "open_once.ts");

  for (const one of REAL) {
    const open = (path: string, home: string): string => {
      const command = [THIS.path, ...THIS.args, script, one.kind, path];
      const run = asNobody(command, home);
      assertEquals(run.status, 0, run.stderr);
      return run.stdout.trim();
    };

    /** A place that nobody may enter, and a home for the runtime. */
    const prepare = (folder: string) => {
      chmodSync(folder, 0o755);
      const home = join(folder, "home");
      const log = join(folder, "log");
      mkdirSync(home);
      chownSync(home, NOBODY, NOBODY);
      return { home, log };
    };

    it(`the harness works: an own folder opens [${one.kind}]`, { skip }, () => {
      using folder = temporaryFolder();
      const { home } = prepare(folder.path);
      const own = join(home, "log");
      assertEquals(open(own, home), "open 0");
      assertEquals(statSync(own).uid, NOBODY);
      assertEquals(open(own, home), "open 1");
    });

    it(`a folder that cannot be made: EACCES [${one.kind}]`, { skip }, () => {
      using folder = temporaryFolder();
      const { home, log } = prepare(folder.path);
      const said = open(log, home);
      assertMatch(said, /^STORAGE EACCES /);
      assertStringIncludes(said, log);
      assertStringIncludes(said, "expected");
      assertEquals(readdirSync(folder.path), ["home"]);
    });

    for (
      const [title, mode, files] of [
        ["may not be entered", 0o700, 0o640],
        ["may not be written", 0o755, 0o644],
        ["may be written, its files not even read", 0o777, 0o600],
        ["may be written, its files only read", 0o777, 0o444],
      ] as const
    ) {
      it(
        `a log that ${title}: refused, unchanged [${one.kind}]`,
        { skip },
        () => {
          using folder = temporaryFolder();
          const { home, log } = prepare(folder.path);
          {
            using wal = openWalSync(log, {
              storage: one.make(),
              segmentBytes: SEGMENT_BYTES,
            });
            wal.appendSync("mine");
          }
          chmodSync(log, mode);
          for (const name of readdirSync(log)) {
            chmodSync(join(log, name), files);
          }
          const before = systemFingerprint(log);
          const said = open(log, home);
          assertMatch(said, /^STORAGE EACCES /);
          assertStringIncludes(said, log);
          assertStringIncludes(said, "expected");
          assertEquals(systemFingerprint(log), before);
          chmodSync(log, 0o750);
          for (const name of readdirSync(log)) {
            chmodSync(join(log, name), 0o640);
          }
          using again = openWalSync(log, { storage: one.make() });
          assertEquals(texts(again), ["mine"]);
        },
      );
    }
  }
});
