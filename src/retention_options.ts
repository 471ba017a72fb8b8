/**
 * How much of a log is kept.
 *
 * @module
 */

import { checkNames, checkWholeIn, isObject, show } from "./checks.ts";

/**
 * How much of the log is kept; a rule that is left out does not count. Whole
 * segments are taken from the front, at rotations and on a timer: the growing
 * segment always stays, and no consumer is passed. The logger is told.
 */
export interface RetentionOptions {
  /** At most so many segment files, the growing one among them; 1 or more. */
  maxSegments?: number | undefined;
  /** At most so many bytes of segment files, as they are allocated. */
  maxBytes?: number | undefined;
  /** No segment whose successor was made longer ago, in milliseconds. */
  maxAgeMs?: number | undefined;
}

/** Checks the option `retention`; undefined when it asks for nothing. */
export function checkRetention(value: unknown): RetentionOptions | undefined {
  if (value === undefined) return undefined;
  if (!isObject(value)) {
    throw new TypeError(
      `Cannot open log: retention is ${show(value)}, expected an object`,
    );
  }
  const given = value as RetentionOptions;
  const names = ["maxSegments", "maxBytes", "maxAgeMs"] as const;
  checkNames("retention", given, names);
  const rules: RetentionOptions = {};
  for (const name of names) {
    const limit = given[name];
    if (limit === undefined) continue;
    rules[name] = checkWholeIn("Cannot open log", `retention.${name}`, limit, {
      least: 1,
      most: Number.MAX_SAFE_INTEGER,
    });
  }
  return Object.keys(rules).length === 0 ? undefined : rules;
}
