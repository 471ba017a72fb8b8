/**
 * Times as people and programs write them.
 *
 * @module
 */

/** What `parseTime` takes, for messages. */
export const TIME_FORMS: string =
  "a time as 2026-11-22T23:06:15Z or nanoseconds " +
  "since 1970";

const DATE = /^(\d{4})-(\d{2})-(\d{2})$/;
const CLOCK = /^(\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?$/;
const ZONE = /(?:Z|[+-]\d{2}:\d{2})$/;

/**
 * Nanoseconds since 1970; undefined when the text is no time. A time without
 * a zone is one of this machine's; a date is its first moment. `Date` would
 * lose what is finer than a millisecond, and takes days that no month has.
 */
export function parseTime(text: string): bigint | undefined {
  if (/^-?\d{1,19}$/.test(text)) return BigInt(text);
  const [, date = "", rest] = /^([^T ]+)(?:[T ](.+))?$/.exec(text) ?? [];
  const day = DATE.exec(date);
  if (day === null || !isDay(day.slice(1).map(Number))) return undefined;
  if (rest === undefined) return nanoseconds(`${date}T00:00:00`, "");
  const zone = ZONE.exec(rest)?.[0] ?? "";
  const clock = CLOCK.exec(rest.slice(0, rest.length - zone.length));
  if (clock === null) return undefined;
  const [, hour, minute, second = "00", fraction = ""] = clock;
  return nanoseconds(`${date}T${hour}:${minute}:${second}${zone}`, fraction);
}

function isDay([year, month, day]: number[]): boolean {
  const date = new Date(0);
  date.setUTCFullYear(year!, month! - 1, day);
  return date.getUTCMonth() === month! - 1 && date.getUTCDate() === day;
}

function nanoseconds(seconds: string, fraction: string): bigint | undefined {
  const ms = Date.parse(seconds);
  if (Number.isNaN(ms)) return undefined;
  return BigInt(ms) * 1_000_000n + BigInt(fraction.padEnd(9, "0"));
}
