/**
 * Steps of those who follow a log: some entries of one, what it does when
 * nothing comes, and the error that ends it.
 *
 * @module
 */

import { type Entry, IndexOutOfRangeError } from "../mod.ts";
import { assert, assertEquals, assertRejects, fail } from "./_assert.ts";
import { isSettled } from "./_wal.ts";

/** What never comes must fail, not wait: no disk is as slow as this. */
const PATIENCE_MS = 10_000;

/** Fails when a promise has not settled after a long time. */
export async function soon<T>(promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    const error = new Error(`Nothing came in ${PATIENCE_MS} ms`);
    timer = setTimeout(() => reject(error), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, tooLate]);
  } finally {
    clearTimeout(timer);
  }
}

/** Anything that gives one thing after the other. */
export type Steps<T = Entry> = AsyncGenerator<T, void, undefined>;

/** An entry in words: its index and its text. */
export function words(entry: Entry): string {
  return `${entry.index} ${entry.text()}`;
}

/** The same for entries that are to come. */
export function numbered(texts: readonly string[], first = 1): string[] {
  return texts.map((text, i) => `${first + i} ${text}`);
}

/** The next `count` entries in words; fails when it ends before. */
export async function take(steps: Steps, count: number): Promise<string[]> {
  const taken: string[] = [];
  while (taken.length < count) {
    const { done, value } = await soon(steps.next());
    assert(!done, `it ended after ${taken.length} of ${count} entries`);
    taken.push(words(value as Entry));
  }
  return taken;
}

/** A step that waits; in a box, since functions that wait unpack promises. */
export interface Waiting<T> {
  readonly step: Promise<IteratorResult<T, void>>;
}

/** Begins a step; fails unless it has nothing to give yet. */
export async function waiting<T>(steps: Steps<T>): Promise<Waiting<T>> {
  const step = steps.next();
  if (!await isSettled(step)) return { step };
  const { done, value } = await step;
  const given = done ? "it ended" : `it gave ${[value].flat().map(wordsOf)}`;
  fail(`Expected a step that waits, ${given}`);
}

/** What a step that waited has got. */
export async function got({ step }: Waiting<Entry>): Promise<string> {
  const { done, value } = await soon(step);
  assert(!done, "it ended");
  return words(value as Entry);
}

function wordsOf(value: unknown): string {
  return words(value as Entry);
}

/** Fails unless the next step is the end, and every later one. */
export async function assertEnded(steps: Steps<unknown>): Promise<void> {
  for (let i = 0; i < 2; i++) {
    assertEquals(await soon(steps.next()), { done: true, value: undefined });
  }
}

/** Fails unless the step throws such an error. */
export async function assertOutOfRange(
  step: Promise<unknown>,
  reason: IndexOutOfRangeError["reason"],
): Promise<IndexOutOfRangeError> {
  const error = await assertRejects(() => soon(step), IndexOutOfRangeError);
  assertEquals(error.reason, reason, error.message);
  return error;
}
