/**
 * C-1: system calls that fail, and the end of the process inside one, in
 * children of every runtime under strace. Whatever fails: acknowledged ⊆
 * recovered ⊆ written, typed errors, and a failed sync is final.
 *
 * WALRUS_FAULT_CASE repeats one case of the seed.
 *
 * @module
 */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { describe, it } from "node:test";
import { openWalSync } from "../mod.ts";
import { Random } from "../testing/mod.ts";
import {
  assert,
  assertEquals,
  assertGreater,
  assertGreaterOrEqual,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
} from "./_assert.ts";
import { budgetOf, replay, seedOf } from "./_budget.ts";
import { Ledger } from "./_ledger.ts";
import { LedgerProcess } from "./_ledger_process.ts";
import { entryOf } from "./_serial_entries.ts";
import {
  HAS_FFI,
  type Runtime,
  RUNTIMES,
  temporaryFolder,
  THIS,
  THIS_RUNTIME,
} from "./_storages.ts";
import { runTraced, type Traced, whyNoStrace } from "./_strace.ts";
import {
  checkNoRetry,
  checkPromises,
  SYNC_CALLS,
  syncsByOpening,
} from "./_sync_trace.ts";
import { type Case, makeCase } from "./_syscall_faults.ts";
import { tearEntry } from "./_torn_log.ts";
import { REAL, SEGMENT_BYTES } from "./_wal.ts";

const FILE = "tests/syscall_fault_test.ts";
const SCRIPT = join(import.meta.dirname!, "_children", "ledger_child.ts");
const SEED = seedOf();
const KINDS = (["mapped", "files"] as const).filter((kind) =>
  kind === "files" || HAS_FFI
);
/** With each change a runtime tries itself only, as all of them do. */
const PER_RUNTIME = (process.env.WALRUS_BUDGET ?? "smoke") === "smoke"
  ? KINDS.map((kind) => ({ runtime: THIS, kind }))
  : RUNTIMES.flatMap((runtime) => KINDS.map((kind) => ({ runtime, kind })));

/** Each runtime that hosts the suite has cases of its own. */
const FIRST_CASE = 1_000_000 * ["deno", "bun", "node"].indexOf(THIS_RUNTIME);
const ONLY_CASE = process.env.WALRUS_FAULT_CASE;
const CASES = ONLY_CASE === undefined
  ? Array.from(
    {
      length: budgetOf({ smoke: THIS_RUNTIME === "node" ? 10 : 30, long: 600 }),
    },
    (_, nth) => FIRST_CASE + nth,
  )
  : [Number(ONLY_CASE)];

/** Each takes some 0.2 s, and much longer where all processors are busy. */
const TIMEOUT_MS = 60_000 + 5000 * CASES.length;

const CALLERS = 64;
const ROUNDS = 20;

interface Counts {
  hit: number;
  killed: number;
  errors: number;
  acknowledged: number;
}

/** Runs one case and judges it. */
async function endure(one: Case, counts: Counts): Promise<void> {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const ledger = new Ledger();
  await prepare(one, ledger, log);
  const traced = await runTraced({
    runtime: one.runtime,
    args: [SCRIPT, one.kind, log],
    log,
    watch: [...SYNC_CALLS, "openat", "open"],
    input: one.script.join("\n") + "\n",
    injection: one.injection,
  });
  const injected = traced.calls.some((call) => call.injected);
  const killed = traced.signal === "SIGKILL";
  if (injected || killed) counts.hit++;
  if (killed) counts.killed++;
  checkEnd(traced, one, killed);

  ledger.nextChild();
  for (const line of traced.report) ledger.feed(line);
  for (const error of ledger.errors) {
    const typed = error.code === "FAILED" ||
      (error.code === "STORAGE" && error.systemCode === one.error);
    assert(typed, `${error.verb}: ${JSON.stringify(error)}`);
    assertMatch(error.message, /^Cannot .*(, expected |open it again)/);
  }
  if (!killed && !injected) assertEquals(ledger.errors, []);
  checkPromises(traced.calls);
  checkNoRetry(traced.calls, log);
  reopen(log, ledger, new Random(SEED, one.number, 1));
  counts.errors += ledger.errors.length;
  counts.acknowledged += ledger.acknowledged;
}

/** A log that was not closed, and may be torn, where the case begins with one. */
async function prepare(one: Case, ledger: Ledger, log: string): Promise<void> {
  if (one.before === undefined) return;
  using child = new LedgerProcess(ledger, one.runtime, one.kind, log, {});
  for (const line of one.before) await child.tell(line);
  await child.kill();
  assertEquals(ledger.errors, []);
  if (one.torn !== undefined) tearEntry(ledger, log, one.torn);
}

/** The child did all that it was asked, unless it was to be killed. */
function checkEnd(traced: Traced, one: Case, killed: boolean): void {
  const { status, signal, stderr, report } = traced;
  assertEquals(stderr, "");
  if (killed) {
    assertEquals(one.error, undefined, "killed by somebody else");
    return;
  }
  assertEquals([status, signal], [0, undefined]);
  const done = report.filter((line) => line === "done").length;
  assertEquals(done, one.script.length, "lines of the script that were done");
}

/** Opens what a child left, twice, in this process. */
function reopen(log: string, ledger: Ledger, random: Random): void {
  const options = {
    storage: random.pick(REAL).make(),
    segmentBytes: SEGMENT_BYTES,
  };
  let length: number;
  {
    using wal = openWalSync(log, options);
    assert(["clean", "torn", "created"].includes(wal.recovery.outcome));
    ledger.check(wal);
    length = wal.length;
  }
  const left = readdirSync(log).filter((name) =>
    name.endsWith(".tmp") || /^LOCK\./.test(name)
  );
  assertEquals(left, [], "files in the making stayed");
  {
    using wal = openWalSync(log, options);
    assertEquals([wal.recovery.outcome, wal.length], ["clean", length]);
    ledger.check(wal);
    assertEquals(wal.appendSync(entryOf(1)), wal.nextIndex - 1);
  }
  assert(existsSync(join(log, "manifest")));
}

/** Callers in loops: one sync a round, not one a call; no timer is needed. */
async function checkGroupCommit(
  runtime: Runtime,
  kind: "mapped" | "files",
): Promise<void> {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const traced = await runTraced({
    runtime,
    args: [
      SCRIPT,
      kind,
      log,
      JSON.stringify({ segmentBytes: 2 ** 20 }),
    ],
    log,
    watch: [...SYNC_CALLS],
    input: `async open\nasync loop ${CALLERS} ${ROUNDS}\n`,
  });
  assertEquals([traced.status, traced.stderr], [0, ""]);
  const acks = traced.report.filter((line) => line.startsWith("ack "));
  assertEquals(acks.length, CALLERS * ROUNDS);
  const syncs = traced.calls.filter(({ name, text }) =>
    name === "fdatasync" && text.includes("segment_")
  );
  // One more was for the making of the segment.
  assertLessOrEqual(syncs.length - 1, 2 * ROUNDS);
  assertGreaterOrEqual(syncs.length - 1, ROUNDS);
  checkPromises(traced.calls);
}

/** Four appends go over two segments, and the second one cannot be synced. */
async function checkRejection(
  runtime: Runtime,
  kind: "mapped" | "files",
): Promise<void> {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const { status, stderr, report, calls } = await runTraced({
    runtime,
    args: [SCRIPT, kind, log],
    log,
    names: ["segment_00000000000000000002.wal"],
    watch: [...SYNC_CALLS],
    input: [
      ...["async open", "async append 1", "async append 13 26 39 52"],
      ...["async append 2", "sync append 3", "sync flush", "async flush"],
      ...["async rotate", "sync cut 1", "async read", "sync close", ""],
    ].join("\n"),
    injection: { calls: ["fdatasync"], how: "error=EIO", when: "1+" },
  });
  assertEquals([status, stderr], [0, ""]);
  const acks = report.filter((line) => line.startsWith("ack "));
  assertEquals(acks, ["ack 2"], "the append before");
  const ledger = new Ledger();
  for (const line of report) ledger.feed(line);
  const codes = ledger.errors.map(({ verb, code }) => `${verb} ${code}`);
  const rejected = Array(6).fill("append FAILED");
  const refused = ["flush", "flush", "rotate", "cut", "close"]
    .map((verb) => `${verb} FAILED`);
  assertEquals(codes, [...rejected, ...refused]);
  assertEquals(calls.filter((call) => call.injected).length, 1);
  reopen(log, ledger, new Random(SEED));
}

/**
 * The system tells a write error once for each opening of a file: so the two
 * ways to sync must not share one.
 */
async function checkSyncPair(
  runtime: Runtime,
  kind: "mapped" | "files",
): Promise<void> {
  using folder = temporaryFolder();
  const log = join(folder.path, "log");
  const script = ["async open"];
  for (let serial = 1; serial <= 8; serial += 2) {
    script.push(`async append ${serial}`, `sync append ${serial + 1}`);
    script.push(serial % 4 === 1 ? "sync rotate" : "async rotate");
  }
  const { status, stderr, calls } = await runTraced({
    runtime,
    args: [SCRIPT, kind, log],
    log,
    watch: [
      ...SYNC_CALLS,
      ...["open", "openat", "openat2", "close"],
      ...["dup", "dup2", "dup3", "fcntl"],
    ],
    input: [...script, "sync close", ""].join("\n"),
  });
  assertEquals([status, stderr], [0, ""]);
  const syncs = syncsByOpening(calls);
  const main = calls[0]!.thread;
  let pairs = 0;
  for (const path of new Set(syncs.map((sync) => sync.path))) {
    const of = (blocking: boolean) =>
      new Set(
        syncs.filter((sync) => sync.path === path)
          .filter((sync) => (sync.thread === main) === blocking)
          .map((sync) => sync.opening),
      );
    const [blocking, soon] = [of(true), of(false)];
    if (blocking.size === 0 || soon.size === 0) continue;
    pairs++;
    assertEquals([blocking.size, soon.size], [1, 1], path);
    assertNotEquals([...blocking][0]!.began, [...soon][0]!.began, path);
  }
  // The folder and at least the segments that both ways have synced.
  assertGreater(pairs, 3);
}

describe("C-1 system calls that fail", () => {
  const NO_STRACE = whyNoStrace();
  if (NO_STRACE) {
    const count = CASES.length + 3 * PER_RUNTIME.length;
    const skip = `${NO_STRACE}; ${count} cases were not run`;
    console.log(`C-1 SKIPPED: ${skip}`);
    it("lose nothing", { skip }, () => {});
    return;
  }

  it("lose nothing, repeat no sync, and are told by type", {
    timeout: TIMEOUT_MS,
  }, async () => {
    const failures: string[] = [];
    const counts = { hit: 0, killed: 0, errors: 0, acknowledged: 0 };
    const means = { seed: SEED, runtimes: RUNTIMES, kinds: KINDS };
    for (const number of CASES) {
      const one = makeCase(means, number);
      try {
        await endure(one, counts);
      } catch (error) {
        const how = replay(FILE, 1, `WALRUS_FAULT_CASE=${number}`);
        failures.push(`${one.title}\n${how}\n${(error as Error).stack}`);
      }
    }
    console.log(
      `C-1 seed ${SEED}: ${CASES.length} runs from case ${CASES[0]}, ` +
        `${counts.hit} of them met their fault (${counts.killed} killed), ` +
        `${counts.errors} errors told, ${counts.acknowledged} promises kept`,
    );
    assert(
      failures.length === 0,
      `${failures.length} of ${CASES.length} failed\n` +
        failures.slice(0, 5).join("\n\n"),
    );
    // A suite that hits nothing proves nothing.
    if (CASES.length > 10) assertGreater(3 * counts.hit, CASES.length);
  });

  for (const { runtime, kind } of PER_RUNTIME) {
    it(`${CALLERS} callers share each sync [${runtime.name}, ${kind}]`, {
      timeout: TIMEOUT_MS,
    }, () => checkGroupCommit(runtime, kind));

    it(`a failed sync rejects who waits, once [${runtime.name}, ${kind}]`, {
      timeout: TIMEOUT_MS,
    }, () => checkRejection(runtime, kind));

    it(`the two ways to sync share no opening [${runtime.name}, ${kind}]`, {
      timeout: TIMEOUT_MS,
    }, () => checkSyncPair(runtime, kind));
  }
});
