import { cpSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { openWal, openWalSync, WalLockedError } from "../mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { KillLane } from "./_kill_lane.ts";
import {
  HAS_FFI,
  type Runtime,
  RUNTIMES,
  temporaryFolder,
} from "./_storages.ts";
import { REAL, SEGMENT_BYTES, startWriter, texts } from "./_wal.ts";

const FILE = "tests/process_kill_test.ts";
const KILLS = budgetOf({ smoke: 40, long: 15_000 });
const SEED = seedOf();
const RUNTIME_NAMES = ["deno", "bun", "node"] as const;

const KINDS = (["mapped", "files"] as const).filter((kind) =>
  kind === "files" || HAS_FFI
);

/** What writer_child.ts writes at an index. */
function textOf(index: number): string {
  return `entry ${index} `.padEnd(index % 17 === 0 ? 5000 : 60, ".");
}

/** With each change every runtime judges its own writers. */
const OWN = "Deno" in globalThis
  ? "deno"
  : process.versions.bun === undefined
  ? "node"
  : "bun";
const SMOKE = (process.env.WALRUS_BUDGET ?? "smoke") === "smoke";

/** A test for each runtime; one that is not to be had is skipped aloud. */
function inRuntimes(
  title: string,
  body: (runtime: Runtime, kind: "mapped" | "files") => Promise<void>,
): void {
  for (const name of RUNTIME_NAMES) {
    if (SMOKE && name !== OWN) continue;
    const runtime = RUNTIMES.find((one) => one.name === name);
    for (const kind of KINDS) {
      const skip = runtime === undefined
        ? `no WALRUS_${name.toUpperCase()}`
        : false;
      it(
        `${title} [${name}, ${kind}]`,
        { skip },
        () => body(runtime!, kind),
      );
    }
  }
}

describe("B-1 killed at any instant, nothing is lost that a call had written", () => {
  for (const [nth, name] of RUNTIME_NAMES.entries()) {
    if (SMOKE && name !== OWN) continue;
    const runtime = RUNTIMES.find((one) => one.name === name);
    const skip = runtime === undefined
      ? `no WALRUS_${name.toUpperCase()}`
      : false;
    it(`writers on ${name}`, { skip, timeout: 86_400_000 }, async () => {
      // The budget is that of all three.
      const kills = Math.floor((KILLS + nth) / RUNTIME_NAMES.length);
      await using lane = new KillLane(runtime!, SEED);
      const startMs = performance.now();
      try {
        for (let i = 0; i < kills; i++) await lane.kill();
      } catch (error) {
        const { message } = error as Error;
        throw new Error(`B-1 ${message}\n${replay(FILE)}`, { cause: error });
      }
      const seconds = (performance.now() - startMs) / 1000;
      console.log(
        `B-1 ${name}: seed ${SEED}, ${JSON.stringify(lane.counts)}, ` +
          `${(kills / seconds).toFixed(1)} kills/s`,
      );
    });
  }
});

describe("kill -9", () => {
  inRuntimes(
    "takes nothing that was acknowledged, always",
    async (runtime, kind) => {
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      using writer = startWriter(runtime, kind, path);
      assertEquals(await writer.ask("open"), "open 0");
      writer.send("burst");
      const said: string[] = [];
      while (said.length < 60) said.push(await writer.next());
      said.push(...await writer.end());
      const acknowledged = said
        .filter((line) => /^ack \d+$/.test(line))
        .map((line) => Number(line.slice(4)));
      assertGreater(acknowledged.length, 59);
      // Each runtime and storage finds the same log in its own copy.
      for (const [i, one] of REAL.entries()) {
        const copy = join(folder.path, `copy${i}`);
        cpSync(path, copy, { recursive: true });
        using wal = openWalSync(copy, { storage: one.make() });
        // The kill may have hit the middle of a store: a torn entry.
        assert(["clean", "torn"].includes(wal.recovery.outcome));
        assert(wal.lastIndex >= Math.max(...acknowledged));
        for (const entry of wal) {
          assertEquals(entry.text(), textOf(entry.index));
        }
        // Bursts are five entries and a batch of three: no half of a batch.
        const rest = wal.length % 8;
        assert(rest <= 5, `${wal.length} entries`);
      }
      for (const other of RUNTIMES) {
        for (const otherKind of KINDS) {
          const copy = join(folder.path, `${other.name}-${otherKind}`);
          cpSync(path, copy, { recursive: true });
          using reader = startWriter(other, otherKind, copy);
          const answer = await reader.ask("open");
          assertMatch(answer, /^open \d+$/);
          assert(Number(answer.slice(5)) >= Math.max(...acknowledged));
          assertMatch(await reader.ask("append"), /^appended \d+$/);
          assertEquals(await reader.ask("close"), "closed");
          using wal = openWalSync(copy);
          assertEquals(wal.get(wal.lastIndex).text(), "from a child");
          assertEquals(wal.length, Number(answer.slice(5)) + 1);
        }
      }
    },
  );

  inRuntimes(
    "takes nothing that was written, never synced",
    async (runtime, kind) => {
      for (const sync of ["never", "interval"]) {
        using folder = temporaryFolder();
        const path = join(folder.path, "log");
        const options = { sync, syncIntervalMs: 2 ** 31 - 1 };
        using writer = startWriter(runtime, kind, path, options);
        assertEquals(await writer.ask("openSync"), "open 0");
        assertEquals(await writer.ask("appendMany"), "appended 200");
        await writer.end();
        const storage = REAL.at(kind === "mapped" ? -1 : 0)!.make();
        await using wal = await openWal(path, { storage });
        assertEquals(wal.recovery.outcome, "clean");
        assertGreater(wal.recovery.segmentsScanned, 0);
        const expected = Array.from({ length: 200 }, (_, i) => textOf(i + 1));
        assertEquals(texts(wal), expected);
        assertEquals(await wal.append("on"), 201);
      }
    },
  );

  inRuntimes(
    "a process that ends without close loses nothing",
    async (runtime, kind) => {
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      using writer = startWriter(runtime, kind, path, { sync: "never" });
      assertEquals(await writer.ask("open"), "open 0");
      assertEquals(await writer.ask("appendMany"), "appended 200");
      await writer.end("SIGTERM");
      using wal = openWalSync(path);
      assertEquals([wal.length, wal.get(200).text()], [200, textOf(200)]);
    },
  );

  inRuntimes(
    "frees the lock; while it lived it was named",
    async (runtime, kind) => {
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      using writer = startWriter(runtime, kind, path);
      assertEquals(await writer.ask("open"), "open 0");
      for (const one of REAL) {
        const options = { storage: one.make(), segmentBytes: SEGMENT_BYTES };
        const errors = [
          assertThrows(() => openWalSync(path, options), WalLockedError),
          await assertRejects(() => openWal(path, options), WalLockedError),
        ];
        for (const error of errors) {
          assertEquals(error.code, "LOCKED");
          assertEquals(error.pid, writer.pid);
          assertStringIncludes(error.message, `${writer.pid}`);
          assertStringIncludes(error.message, "expected");
        }
      }
      for (const other of RUNTIMES) {
        using second = startWriter(
          other,
          KINDS.find((one) => one !== kind) ?? kind,
          path,
        );
        assertMatch(
          await second.ask("open"),
          new RegExp(`^LOCKED ${writer.pid} `),
        );
      }
      assertEquals(await writer.ask("append"), "appended 1");
      await writer.end();
      for (const one of REAL) {
        using wal = openWalSync(path, { storage: one.make() });
        assertEquals(texts(wal), ["from a child"]);
      }
    },
  );

  inRuntimes(
    "a child is refused what this process has open",
    async (runtime, kind) => {
      using folder = temporaryFolder();
      const path = join(folder.path, "log");
      for (const one of REAL) {
        const wal = await openWal(path, { storage: one.make() });
        using child = startWriter(runtime, kind, path);
        assertMatch(
          await child.ask("open"),
          new RegExp(`^LOCKED ${process.pid} `),
        );
        assertMatch(
          await child.ask("openSync"),
          new RegExp(`^LOCKED ${process.pid} `),
        );
        await wal.append("x");
        await wal.close();
        assertMatch(await child.ask("open"), /^open \d$/);
        assertEquals(await child.ask("close"), "closed");
      }
    },
  );
});
