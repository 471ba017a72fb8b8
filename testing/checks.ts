/**
 * The check of what users hand over: a wrong type is a `TypeError`, a wrong
 * value a `RangeError`, and a name that nothing has is never let pass.
 *
 * @module
 */

/** What is to be done, as messages begin: "make a simulated disk". */
export type Doing = string;

/** Refuses all but objects, and names that nothing has. */
export function checkObject(
  doing: Doing,
  given: unknown,
  known: readonly string[],
): void {
  if (typeof given !== "object" || given === null) {
    throw new TypeError(
      `Cannot ${doing}: options is ${show(given)}, expected an object`,
    );
  }
  for (const name of Object.keys(given)) {
    if (known.includes(name)) continue;
    throw new TypeError(
      `Cannot ${doing}: "${name}" is not an option, expected ` +
        known.join(", "),
    );
  }
}

/** A whole number from `least` to `most`; undefined stands for the default. */
export function checkWhole(
  doing: Doing,
  name: string,
  given: unknown,
  least: number,
  most: number = Number.MAX_SAFE_INTEGER,
): void {
  if (given === undefined) return;
  const expected = most === Number.MAX_SAFE_INTEGER
    ? `expected a whole number from ${least}`
    : `expected a whole number from ${least} to ${most}`;
  const message = `Cannot ${doing}: ${name} is ${show(given)}, ${expected}`;
  if (typeof given !== "number") throw new TypeError(message);
  const unbounded = given === Infinity && most === Infinity;
  const whole = Number.isSafeInteger(given) || unbounded;
  if (!whole || given < least || given > most) throw new RangeError(message);
}

/** A number from 0 to 1. */
export function checkChance(doing: Doing, name: string, given: unknown): void {
  if (given === undefined) return;
  const message = `Cannot ${doing}: ${name} is ${show(given)}, ` +
    "expected a number from 0 to 1";
  if (typeof given !== "number") throw new TypeError(message);
  if (!(given >= 0 && given <= 1)) throw new RangeError(message);
}

/** True or false. */
export function checkBoolean(doing: Doing, name: string, given: unknown): void {
  if (given === undefined || typeof given === "boolean") return;
  throw new TypeError(
    `Cannot ${doing}: ${name} is ${show(given)}, expected true or false`,
  );
}

/** A function, which may be left out unless it is `required`. */
export function checkFunction(
  doing: Doing,
  name: string,
  given: unknown,
  required = false,
): void {
  if (typeof given === "function") return;
  if (given === undefined && !required) return;
  throw new TypeError(
    `Cannot ${doing}: ${name} is ${show(given)}, expected a function`,
  );
}

/** Text. */
export function checkText(doing: Doing, name: string, given: unknown): void {
  if (given === undefined || typeof given === "string") return;
  throw new TypeError(
    `Cannot ${doing}: ${name} is ${show(given)}, expected a string`,
  );
}

/** One of a few words. */
export function checkWord(
  doing: Doing,
  name: string,
  given: unknown,
  allowed: readonly string[],
): void {
  if (given === undefined) return;
  const expected = `expected one of ${allowed.map(show).join(", ")}`;
  const message = `Cannot ${doing}: ${name} is ${show(given)}, ${expected}`;
  if (typeof given !== "string") throw new TypeError(message);
  if (!allowed.includes(given)) throw new RangeError(message);
}

/** The system's name of an error. */
export function checkCode(doing: Doing, given: unknown): void {
  const message = `Cannot ${doing}: code is ${show(given)}, expected the ` +
    'name of a system error such as "EIO"';
  if (typeof given !== "string") throw new TypeError(message);
  if (!/^E[A-Z0-9]+$/.test(given)) throw new RangeError(message);
}

/** How a value looks in a message. */
export function show(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return "a function";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object" && value !== null) {
    return `an object of ${value.constructor?.name ?? "no class"}`;
  }
  return String(value);
}
