/**
 * Micro-benchmarks, by `deno bench` on Deno and by mitata elsewhere. The same
 * cases on all runtimes; the name of each tells how many operations one
 * iteration does, so with 1000 of them microseconds read as nanoseconds.
 *
 *     node bench/micro.mjs                      all three
 *     deno bench -A bench/micro_bench.ts        one
 *     bun bench/micro_bench.ts                  one; node the same
 *
 * `WALRUS_BENCH_ONLY` keeps the cases whose names have that text.
 *
 * @module
 */

import process from "node:process";
import { makeCases, type MicroCase } from "./micro_cases.ts";

interface DenoContext {
  start(): void;
  end(): void;
}

/** What is used of `Deno.bench`. */
interface DenoHarness {
  bench?: (definition: {
    name: string;
    group: string;
    fn: (context: DenoContext) => void | Promise<void>;
  }) => void;
}

/** What is used of mitata. */
interface Mitata {
  bench(name: string, fn: () => Generator): void;
  group(name: string, fn: () => void): void;
  run(): Promise<unknown>;
}

const { cases, remove } = makeCases();
const only = process.env.WALRUS_BENCH_ONLY ?? "";
const chosen = cases.filter(({ name }) => name.includes(only));
const deno = (globalThis as { Deno?: DenoHarness }).Deno;
if (deno?.bench !== undefined) {
  for (const one of chosen) registerInDeno(deno.bench, one);
  process.once("exit", remove);
} else {
  await runInMitata(chosen);
  remove();
}

function title({ name, operations }: MicroCase): string {
  return `${name}, x ${operations}`;
}

function registerInDeno(
  bench: NonNullable<DenoHarness["bench"]>,
  one: MicroCase,
): void {
  const fn = (context: DenoContext) => {
    one.prepare?.();
    context.start();
    one.run();
    context.end();
  };
  // Deno awaits functions that are declared asynchronous, and no others.
  const asyncFn = async (context: DenoContext) => {
    one.prepare?.();
    context.start();
    await one.run();
    context.end();
  };
  const { group, awaited } = one;
  bench({ name: title(one), group, fn: awaited ? asyncFn : fn });
}

async function runInMitata(list: readonly MicroCase[]): Promise<void> {
  // Not a package of the root: type checkers need not find it.
  const path = "./peers/node_modules/mitata/src/main.mjs";
  const { bench, group, run } = await import(path) as Mitata;
  for (const name of new Set(list.map((one) => one.group))) {
    group(name, () => {
      for (const one of list.filter(({ group }) => group === name)) {
        bench(title(one), function* () {
          yield {
            0: () => one.prepare?.(),
            // Without a parameter, nothing is prepared.
            bench: (_prepared: unknown) => one.run(),
          };
        });
      }
    });
  }
  await run();
}
