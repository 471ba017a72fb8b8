/**
 * Bytes of heap, as each engine tells them to a process that was started with
 * the flags of `_guard_heap.ts`.
 *
 * V8 tells exactly what lies in its heap, garbage too: as long as it does not
 * collect, what was added is what was allocated. JavaScriptCore counts when it
 * collects: with the collector off, the blocks of 16 KiB that it has taken
 * grow by what was allocated.
 *
 * @module
 */

import process from "node:process";
import v8 from "node:v8";

/** What is known of the heap of this process. */
export interface Meter {
  /** Removes what nobody reaches, where this can be. */
  collect(): void;
  /** Live and dead, in the heap and beside it. */
  bytes(): number;
  /** What lives in the heap, after a collection. */
  keptBytes(): number;
}

/** What `bun:jsc` has of use here. */
interface Jsc {
  fullGC(): void;
  heapStats(): {
    heapSize: number;
    heapCapacity: number;
    extraMemorySize: number;
  };
}

/** The meter of this runtime. */
export async function startMeter(): Promise<Meter> {
  if (process.versions.bun === undefined) return v8Meter();
  // A name that other runtimes cannot resolve, nor their checkers.
  const module: string = "bun:jsc";
  return jscMeter(await import(module) as Jsc);
}

function v8Meter(): Meter {
  const { gc } = globalThis as unknown as { gc: () => void };
  const used = () => v8.getHeapStatistics().used_heap_size;
  // What a first one has found dead, a second one takes away.
  const collect = () => {
    for (let nth = 0; nth < 2; nth++) gc();
  };
  return {
    collect,
    bytes: () => used() + process.memoryUsage().external,
    keptBytes(): number {
      collect();
      return used();
    },
  };
}

function jscMeter(jsc: Jsc): Meter {
  return {
    collect: () => jsc.fullGC(),
    bytes(): number {
      const { heapCapacity, extraMemorySize } = jsc.heapStats();
      return heapCapacity + extraMemorySize;
    },
    keptBytes(): number {
      jsc.fullGC();
      // A mapped file is memory beside the heap, of pages that can go.
      const { heapSize, extraMemorySize } = jsc.heapStats();
      return heapSize - extraMemorySize;
    },
  };
}
