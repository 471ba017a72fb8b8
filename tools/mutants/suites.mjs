/**
 * What kills mutants: suites of tests, each with a budget as small as will
 * do. A mutant names one of them.
 */

const A1 = "tests/crash_simulation_test.ts";
const A2 = "tests/exhaustive_crash_test.ts";

/** The suites by the names that mutants use. */
export const KILLERS = {
  "A-1": { file: A1, budget: 8_000, runtime: "deno" },
  "A-2": { file: A2, budget: 1, runtime: "deno" },
  "A-3": { file: "tests/damage_test.ts", budget: 500, runtime: "deno" },
  // One test of four: files storage, blocking.
  "A-4": {
    file: "tests/fault_test.ts",
    budget: 1,
    runtime: "deno",
    shard: "3/4",
  },
  "A-5": { file: "tests/model_test.ts", budget: 2_000, runtime: "deno" },
  "B-1": { file: "tests/process_kill_test.ts", budget: 12, runtime: "bun" },
  "C-1": { file: "tests/syscall_fault_test.ts", budget: 30, runtime: "deno" },
  "D-1": { file: "tests/full_disk_test.ts", budget: 2, runtime: "deno" },
  "F-1": { file: "tests/fuzz_test.ts", budget: 1_500, runtime: "deno" },
  "F-2": {
    file: "tests/hostile_folder_test.ts",
    budget: "smoke",
    runtime: "deno",
  },
  "E-1": { file: "tests/readers_test.ts", budget: 5, runtime: "deno" },
  // Deno gives files numbers of its own, which it does not use again.
  contract: { file: "tests/storage_contract_test.ts", runtime: "bun" },
  transaction_atomic: {
    file: "tests/transaction_atomic_test.ts",
    runtime: "deno",
  },
  worker: { file: "tests/worker_test.ts", runtime: "deno" },
  consumer_crash: { file: "tests/consumer_crash_test.ts", runtime: "deno" },
  death_then_power: {
    file: "tests/death_then_power_test.ts",
    runtime: "deno",
  },
  append: { file: "tests/append_test.ts", runtime: "deno" },
  batch: { file: "tests/batch_test.ts", runtime: "deno" },
  format: { file: "tests/format_test.ts", runtime: "deno" },
  frame: { file: "tests/frame_test.ts", runtime: "deno" },
  frame_run: { file: "tests/frame_run_test.ts", runtime: "deno" },
};
