/**
 * The suites of the crash, fault and fuzz programme: the one list that
 * `npm run trust` runs and that docs/testing.md is compared with.
 *
 * A suite's `smoke` and `long` are what its test file does under these words;
 * `shards` says how several processes share one run: "seeds" gives each a
 * seed of its own and a part of the count, "parts" the same seed and a part
 * of the cases (WALRUS_SHARD); a suite without it runs whole.
 */

/** Every suite, in the order of the programme. */
export const SUITES = [
  {
    id: "A-1",
    title: "crash simulation",
    file: "tests/crash_simulation_test.ts",
    smoke: 20_000,
    long: 1_000_000,
    unit: "states",
    shards: "seeds",
  },
  {
    id: "A-2",
    title: "exhaustive small workloads",
    file: "tests/exhaustive_crash_test.ts",
    smoke: 2,
    long: 3,
    unit: "operations a workload",
    shards: "parts",
  },
  {
    id: "A-3",
    title: "damage to a closed log",
    file: "tests/damage_test.ts",
    smoke: 3_000,
    long: 526_336,
    unit: "bits",
    shards: "parts",
  },
  {
    id: "A-4",
    title: "the Nth call fails",
    file: "tests/fault_test.ts",
    smoke: 1,
    long: 6,
    unit: "workloads",
    shards: "parts",
  },
  {
    id: "A-5",
    title: "against a plain array",
    file: "tests/model_test.ts",
    smoke: 2_000,
    long: 1_000_000,
    unit: "operations",
    shards: "seeds",
  },
  {
    id: "B-1",
    title: "kill -9",
    file: "tests/process_kill_test.ts",
    smoke: 40,
    long: 15_000,
    unit: "kills",
    shards: "seeds",
  },
  {
    id: "C-1",
    title: "system calls that fail",
    file: "tests/syscall_fault_test.ts",
    smoke: 30,
    long: 600,
    unit: "faults",
  },
  {
    id: "D-1",
    title: "full disk",
    file: "tests/full_disk_test.ts",
    smoke: 2,
    long: 50,
    unit: "disks",
  },
  {
    id: "E-1",
    title: "readers beside a live writer",
    file: "tests/readers_test.ts",
    smoke: 10,
    long: 600,
    unit: "seconds",
  },
  {
    id: "F-1",
    title: "forged files",
    file: "tests/fuzz_test.ts",
    smoke: 5_000,
    long: 1_000_000,
    unit: "logs",
    shards: "seeds",
  },
  {
    id: "F-2",
    title: "hostile folders",
    file: "tests/hostile_folder_test.ts",
    smoke: "all",
    long: "all",
    unit: "folders",
  },
  {
    id: "G-1",
    title: "mutants",
    file: "tools/mutants.mjs",
    smoke: 6,
    long: "all",
    unit: "mutants",
  },
];

/** Finds suites by their ids; throws for one that is not there. */
export function findSuites(ids) {
  if (ids.length === 0) return SUITES;
  return ids.map((id) => {
    const found = SUITES.find((suite) => suite.id === id.toUpperCase());
    if (found !== undefined) return found;
    const known = SUITES.map((suite) => suite.id).join(", ");
    throw new RangeError(`Cannot run "${id}": expected one of ${known}`);
  });
}
