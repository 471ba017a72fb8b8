/**
 * The checks that values of callers go through, whoever takes them, and how
 * a value looks in an error message.
 *
 * @module
 */

/** Refuses names that no option has: a typo must not pass in silence. */
export function checkNames(
  what: string,
  given: object,
  known: readonly string[],
): void {
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    throw new TypeError(
      `Cannot use ${what}: "${name}" is not an option, expected ` +
        known.join(", "),
    );
  }
}

/** How a value looks in an error message. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (value instanceof URL) return value.href;
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object" && value !== null) {
    return `an object of ${value.constructor?.name ?? "no class"}`;
  }
  return String(value);
}

/** Whether a value can have fields. */
export function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}

/** Checks a time that a timer can count: whole milliseconds. */
export function checkTimeout(what: string, name: string, ms: unknown): number {
  return checkWholeIn(what, name, ms, { least: 1, most: 2 ** 31 - 1 });
}

/** Checks a whole number that must lie in a range. */
export function checkWholeIn(
  what: string,
  name: string,
  value: unknown,
  { least, most }: { least: number; most: number },
): number {
  const expected = `expected a whole number from ${least} to ${most}`;
  const message = `${what}: ${name} is ${show(value)}, ${expected}`;
  if (typeof value !== "number") throw new TypeError(message);
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new RangeError(message);
}

/** Checks the option `zeroCopy` of a read. */
export function checkZeroCopy(value: unknown): boolean | undefined {
  if (value === undefined || typeof value === "boolean") return value;
  throw new TypeError(
    `Cannot read: zeroCopy is ${show(value)}, expected true or false`,
  );
}
