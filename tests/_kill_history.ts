/**
 * What a writer that is killed does: a seeded row of calls, which the killed
 * process makes and the one that judges it plays again, so that the pipe
 * between them carries no more than how far it came.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { Random } from "../testing/mod.ts";

/** Bytes to cut entries from, made in little time at each start. */
const PAYLOAD = makePayload(128 * 1024);

function makePayload(bytes: number): Uint8Array<ArrayBuffer> {
  const random = new Random(20_261_122);
  const words = new Uint32Array(bytes / 4);
  for (let i = 0; i < words.length; i++) words[i] = random.uint32();
  return new Uint8Array(words.buffer);
}

/** The consumer that every life opens. */
export const CONSUMER = "worker" as const;

/** What one killed process is to do. */
export interface Life {
  readonly seed: number;
  readonly life: number;
  readonly path: string;
  readonly kind: "mapped" | "files";
  readonly sync: "always" | "interval" | "never";
}

/** An entry, by what its data are made from. */
export interface KilledEntry {
  readonly serial: number;
  readonly bytes: number;
}

/** One call of a log. */
export type Call =
  | {
    readonly kind: "append" | "batch" | "transaction";
    readonly entries: readonly KilledEntry[];
    readonly durable: boolean | undefined;
  }
  | {
    readonly kind: "truncateAfter" | "truncateBefore" | "reset" | "ack";
    readonly index: number;
  }
  | { readonly kind: "rotate" | "flush" };

/** A call, and by which twin it is made. */
export type Step = Call & { readonly blocking: boolean };

/** Where a log begins and what it gives next. */
export interface Span {
  readonly first: number;
  readonly next: number;
}

/** The data of an entry: nothing of it repeats in another one. */
export function dataOf(
  { serial, bytes }: KilledEntry,
): Uint8Array<ArrayBuffer> {
  const from = (serial * 7919) % (PAYLOAD.length - bytes);
  const data = PAYLOAD.slice(from, from + bytes);
  if (bytes >= 8) {
    new DataView(data.buffer).setFloat64(0, serial, true);
  }
  return data;
}

/** Equal bytes? */
export function isDataOf(data: Uint8Array, entry: KilledEntry): boolean {
  return Buffer.compare(data, dataOf(entry)) === 0;
}

/** The calls of one life, one after the other. */
export class Script {
  readonly #random: Random;
  readonly #sizes: readonly number[];
  #serial: number;

  constructor(seed: number, life: number) {
    this.#random = new Random(seed, life, 1);
    this.#serial = life * 1_000_000;
    this.#sizes = this.#random.pick([
      [0, 10, 100],
      [10, 100, 3000],
      [100, 3000, 20_000],
      [20_000, 60_000],
    ]);
  }

  /** The next call on a log that spans `span`. */
  next({ first, next }: Span): Step {
    const random = this.#random;
    const blocking = random.chance(0.5);
    const length = next - first;
    const roll = random.int(100);
    const durable = random.pick([undefined, undefined, true, false]);
    if (roll < 50) {
      return { kind: "append", entries: this.#entries(1), durable, blocking };
    }
    if (roll < 67) {
      const entries = this.#entries(random.between(2, 12));
      return { kind: "batch", entries, durable, blocking };
    }
    if (roll < 80) {
      const entries = this.#entries(random.between(1, 6));
      return { kind: "transaction", entries, durable, blocking };
    }
    if (roll < 85) {
      const back = Math.min(length, random.pick([0, 1, 2, 5, 20]));
      return { kind: "truncateAfter", index: next - 1 - back, blocking };
    }
    if (roll < 90) {
      const ahead = Math.min(length, random.pick([1, 2, 5, 20]));
      return { kind: "truncateBefore", index: first + ahead, blocking };
    }
    if (roll === 90) {
      const index = next + random.pick([0, 0, 10, -Math.min(5, next - 1)]);
      return { kind: "reset", index, blocking };
    }
    if (roll < 95) {
      return { kind: "ack", index: next - 1 - random.int(3), blocking };
    }
    return { kind: roll < 97 ? "rotate" : "flush", blocking };
  }

  #entries(count: number): KilledEntry[] {
    return Array.from({ length: count }, () => ({
      serial: this.#serial++,
      bytes: this.#random.pick(this.#sizes),
    }));
  }
}

/** What the log holds, as far as the calls that returned tell. */
export class Ledger {
  /** From index `base` on, also those whose removal is not durable. */
  entries: (KilledEntry & { readonly transaction: boolean })[] = [];
  base = 1;
  /** The first index that the open log has. */
  first = 1;
  /** The ones that a killed log may have. */
  firsts: Set<number> = new Set([1]);
  /** Where the consumer may stand; undefined: it may not be there. */
  standings: Set<number | undefined> = new Set([undefined]);
  /** How often the end was cut: what was called before may count less. */
  epoch = 0;

  /** Where the open log begins and what it gives next. */
  get span(): Span {
    return { first: this.first, next: this.base + this.entries.length };
  }

  /** The same, to go on from apart. */
  copy(): Ledger {
    const copy = new Ledger();
    const { entries, base, first, firsts, standings, epoch } = this;
    Object.assign(copy, { base, first, epoch });
    copy.entries = entries.slice();
    copy.firsts = new Set(firsts);
    copy.standings = new Set(standings);
    return copy;
  }

  /** A killed log was found so: that is what it holds. */
  settle(first: number, position: number | undefined): void {
    this.entries = this.entries.slice(first - this.base);
    this.base = this.first = first;
    this.firsts = new Set([first]);
    this.standings = new Set([position]);
  }

  /** The call has returned, or was about to. */
  apply(step: Step): void {
    switch (step.kind) {
      case "append":
      case "batch":
      case "transaction": {
        const transaction = step.kind === "transaction";
        for (const entry of step.entries) {
          this.entries.push({ ...entry, transaction });
        }
        return;
      }
      case "truncateAfter":
        if (step.index === this.span.next - 1) return;
        if (step.index < this.first) return this.#begin(step.index + 1);
        this.entries.length = step.index + 1 - this.base;
        return this.#lower(step.index);
      case "truncateBefore":
        this.first = Math.max(this.first, step.index);
        this.firsts.add(this.first);
        return;
      case "reset":
        return this.#begin(step.index);
      case "ack": {
        // A lower one has no effect.
        const known = [...this.standings].map((position) => position ?? 0);
        if (step.index > Math.min(...known)) this.standings.add(step.index);
      }
    }
  }

  /** The call was acknowledged, and no cut came between. */
  acknowledge(step: Step): void {
    if (step.kind === "truncateBefore") {
      const kept = [...this.firsts].filter((first) => first >= step.index);
      this.firsts = new Set(kept.length === 0 ? [this.first] : kept);
    }
    if (step.kind === "ack") {
      const kept = [...this.standings].filter((position) =>
        (position ?? 0) >= step.index
      );
      this.standings = new Set(kept);
    }
  }

  #begin(next: number): void {
    this.entries = [];
    this.base = this.first = next;
    this.firsts = new Set([next]);
    this.#lower(next - 1);
  }

  #lower(index: number): void {
    this.epoch++;
    const lowered = [...this.standings].map((position) =>
      position === undefined ? position : Math.min(position, index)
    );
    this.standings = new Set(lowered);
  }
}
