/**
 * The cases of C-1: which system call fails, how, at which of its calls, in
 * which runtime, and what the program does meanwhile. A case is its number
 * and the seed, nothing else.
 *
 * @module
 */
import { Random } from "../testing/mod.ts";
import type { Runtime } from "./_storages.ts";
import type { Injection } from "./_strace.ts";

/** A kind of call, under all the names that runtimes call it by. */
interface Target {
  readonly name: string;
  readonly calls: readonly string[];
  readonly errors: readonly string[];
  /** Some calls are made by one storage only. */
  readonly kind?: "mapped" | "files";
  /** About as often as the programs below call it. */
  readonly most: number;
  /** How many of the cases are of it, to others of weight 1. */
  readonly weight?: number;
  /** The asynchronous calls make it in threads of a pool. */
  readonly pooled?: boolean;
}

const TARGETS: readonly Target[] = [
  {
    name: "fdatasync",
    calls: ["fdatasync"],
    errors: ["EIO", "EIO", "ENOSPC"],
    most: 30,
    weight: 5,
    pooled: true,
  },
  {
    name: "fsync",
    calls: ["fsync"],
    errors: ["EIO", "ENOSPC"],
    most: 15,
    weight: 2,
    pooled: true,
  },
  {
    name: "fallocate",
    calls: ["fallocate"],
    // What it may not do it does by writing zeros.
    errors: ["ENOSPC", "EIO", "EOPNOTSUPP"],
    kind: "mapped",
    most: 16,
  },
  {
    name: "ftruncate",
    calls: ["ftruncate"],
    errors: ["ENOSPC", "EIO", "EFBIG"],
    kind: "files",
    most: 10,
  },
  {
    name: "mmap",
    calls: ["mmap"],
    errors: ["ENOMEM", "EIO", "ENODEV"],
    kind: "mapped",
    most: 7,
  },
  {
    name: "rename",
    calls: ["rename", "renameat", "renameat2"],
    errors: ["EIO", "ENOSPC"],
    most: 12,
  },
  {
    name: "unlink",
    calls: ["unlink", "unlinkat"],
    errors: ["EIO", "EROFS"],
    most: 4,
  },
  {
    name: "openat",
    calls: ["open", "openat", "openat2"],
    errors: ["EIO", "ENOSPC", "EMFILE"],
    most: 60,
  },
  {
    name: "pwrite64",
    calls: ["pwrite64", "pwritev", "pwritev2"],
    errors: ["EIO", "ENOSPC", "EINTR"],
    most: 30,
  },
  {
    name: "pread64",
    calls: ["pread64", "preadv", "preadv2"],
    errors: ["EIO"],
    most: 20,
  },
  {
    name: "link",
    calls: ["link", "linkat"],
    errors: ["EIO", "ENOSPC", "EPERM"],
    most: 2,
  },
  { name: "flock", calls: ["flock"], errors: ["EIO", "ENOLCK"], most: 2 },
  {
    name: "mkdir",
    calls: ["mkdir", "mkdirat"],
    errors: ["EIO", "ENOSPC"],
    most: 1,
  },
  {
    name: "getdents64",
    calls: ["getdents64"],
    errors: ["EIO"],
    most: 10,
  },
];

/** Deno gives the names it has when listing fails, and tells nobody. */
const DENO_UNTOLD = ["getdents64"];

/** Small, so that it is in one piece behind the others. */
const TORN_SERIAL = 2002;

/** One run. */
export interface Case {
  readonly number: number;
  readonly runtime: Runtime;
  readonly kind: "mapped" | "files";
  readonly injection: Injection;
  /** The error that is injected; undefined for the end of the process. */
  readonly error: string | undefined;
  /** What was done before, by a program that was killed. */
  readonly before: readonly string[] | undefined;
  /** Its last entry, when that is to be torn. */
  readonly torn: number | undefined;
  /** What the program does: the lines of its input. */
  readonly script: readonly string[];
  /** How a report names it. */
  readonly title: string;
}

/** What the programs of one run of the suite are made of. */
export interface Means {
  readonly seed: number;
  readonly runtimes: readonly Runtime[];
  readonly kinds: readonly ("mapped" | "files")[];
}

/** Case `number` of a seed: the calls take turns, the rest is chance. */
export function makeCase(means: Means, number: number): Case {
  const { seed, runtimes, kinds } = means;
  const random = new Random(seed, number, 0xc1);
  const targets = TARGETS.filter(({ kind }) =>
    kind === undefined || kinds.includes(kind)
  ).flatMap((target) => Array<Target>(target.weight ?? 1).fill(target));
  const target = targets[number % targets.length]!;
  const runtime = random.pick(runtimes);
  const kind = target.kind ?? random.pick(kinds);
  const untold = DENO_UNTOLD.includes(target.name) && runtime.name === "deno";
  const error = untold || random.chance(0.3)
    ? undefined
    : random.pick(target.errors);
  const twin = random.pick(["sync", "async", "mixed"] as const);
  // strace counts for each thread, and a pool has several.
  const most = target.pooled && twin === "async"
    ? Math.ceil(target.most / 4)
    : target.most;
  const nth = random.between(1, most);
  // A signal that interrupts for ever would be waited out for ever.
  const lasts = error !== undefined && error !== "EINTR" && random.chance(0.2);
  const when = lasts ? `${nth}+` : String(nth);
  const killed = random.chance(0.35);
  const before = killed ? makeScript(random, "async", 8, 1000) : undefined;
  const torn = killed && random.chance(0.6) ? TORN_SERIAL : undefined;
  before?.splice(-1, 1, `sync note ${TORN_SERIAL - 1} ${TORN_SERIAL}`);
  const how = error === undefined ? "signal=KILL" : `error=${error}`;
  return {
    number,
    runtime,
    kind,
    injection: { calls: target.calls, how, when },
    error,
    before,
    torn,
    script: [
      ...makeScript(random, twin, killed ? 10 : 18, 0),
      ...makeScript(random, twin, 8, 500),
    ],
    title: `case ${number}: ${runtime.name}, ${kind}, ${twin}` +
      `${torn ? ", torn" : killed ? ", killed" : ""}: ` +
      `${target.name} ${error ?? "KILL"} at ${when}`,
  };
}

/** A program: opens, does so many things, closes. */
function makeScript(
  random: Random,
  twin: "sync" | "async" | "mixed",
  count: number,
  serialsBefore: number,
): string[] {
  const lines: string[] = [];
  let serial = serialsBefore;
  const say = (verb: string, ...args: number[]): void => {
    const either = twin === "mixed" ? random.pick(["sync", "async"]) : twin;
    lines.push([either, verb, ...args].join(" "));
  };
  const serials = (count: number): number[] =>
    Array.from({ length: count }, () => ++serial);
  const steps: [number, () => void][] = [
    [6, () => say("append", ...serials(random.pick([1, 1, 3, 8])))],
    [2, () => say("note", ...serials(random.between(1, 4)))],
    [3, () => say("batch", ...serials(random.pick([1, 2, 5])))],
    [2, () => say("commit", ...serials(random.pick([1, 3])))],
    [2, () => say("cut", random.pick([1, 2, 5, 9]))],
    [2, () => say("behead", random.pick([1, 4, 12]))],
    [1, () => say(random.pick(["cut", "behead"]), 1000)],
    [1, () => say("reset", random.pick([0, 7]))],
    [2, () => say("rotate")],
    [1, () => say("flush")],
    [1, () => say("read")],
  ];
  const wheel = steps.flatMap(([weight, step]) => Array(weight).fill(step));
  say("open");
  for (let i = 0; i < count; i++) random.pick(wheel)();
  say("read");
  say("close");
  return lines;
}
