/**
 * Assertions by the names of `@std/assert`, over `node:assert/strict`: the
 * one file that knows where they come from.
 *
 * @module
 */
import assertions from "node:assert/strict";

/** A class of errors, as `assertThrows` takes it. */
// deno-lint-ignore no-explicit-any -- constructors differ in what they take.
export type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** Fails unless `condition` is truthy. */
export function assert(
  condition: unknown,
  message?: string,
): asserts condition {
  assertions.ok(condition, ...because(message));
}

/** Fails unless a false condition is false. */
export function assertFalse(
  condition: unknown,
  message?: string,
): asserts condition is false {
  assertions.ok(!condition, message ?? "Expected a falsy value");
}

/**
 * Fails unless both are deeply equal, of the same type. Two views of bytes
 * are equal when they have the same class and the same elements, wherever
 * these lie in their buffers.
 */
export function assertEquals<T>(
  actual: T,
  expected: T,
  message?: string,
): void {
  if (!isBytes(actual) || !isBytes(expected)) {
    assertions.deepStrictEqual(actual, expected, ...because(message));
    return;
  }
  // Comparing element by element would take seconds for large arrays, and
  // the runtimes' own reports of a difference print every element.
  const difference = describeDifference(actual, expected);
  if (difference !== undefined) {
    fail(message === undefined ? difference : `${message}: ${difference}`);
  }
}

/** Fails if both are deeply equal. */
export function assertNotEquals<T>(
  actual: T,
  expected: T,
  message?: string,
): void {
  if (isBytes(actual) && isBytes(expected)) {
    assertions.ok(
      describeDifference(actual, expected) !== undefined,
      message ?? "Expected bytes that differ",
    );
    return;
  }
  assertions.notDeepStrictEqual(actual, expected, ...because(message));
}

/** Fails unless `Object.is(actual, expected)`. */
export function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  message?: string,
): asserts actual is T {
  assertions.strictEqual(actual, expected, ...because(message));
}

/** Fails if `Object.is(actual, expected)`. */
export function assertNotStrictEquals(
  actual: unknown,
  expected: unknown,
  message?: string,
): void {
  assertions.notStrictEqual(actual, expected, ...because(message));
}

/** Fails if `actual` is `undefined` or `null`. */
export function assertExists<T>(
  actual: T,
  message?: string,
): asserts actual is NonNullable<T> {
  assertions.ok(
    actual !== undefined && actual !== null,
    message ?? `Expected a value, got ${actual}`,
  );
}

/** Fails unless `actual` is an instance of `expected`. */
export function assertInstanceOf<T>(
  actual: unknown,
  // deno-lint-ignore no-explicit-any -- constructors differ in what they take.
  expected: abstract new (...args: any[]) => T,
  message?: string,
): asserts actual is T {
  if (actual instanceof expected) return;
  const found = describe(actual);
  fail(message ?? `Expected an instance of ${expected.name}, got ${found}`);
}

/** Fails unless `actual` contains `expected`. */
export function assertStringIncludes(
  actual: string,
  expected: string,
  message?: string,
): void {
  assertions.ok(
    actual.includes(expected),
    message ?? `Expected "${actual}" to contain "${expected}"`,
  );
}

/** Fails unless `expected` matches `actual`. */
export function assertMatch(
  actual: string,
  expected: RegExp,
  message?: string,
): void {
  assertions.match(actual, expected, ...because(message));
}

/** Fails unless `actual > expected`. */
export function assertGreater<T extends number | bigint>(
  actual: T,
  expected: T,
  message?: string,
): void {
  assertions.ok(
    actual > expected,
    message ?? `Expected ${actual} > ${expected}`,
  );
}

/** Fails unless `actual >= expected`. */
export function assertGreaterOrEqual<T extends number | bigint>(
  actual: T,
  expected: T,
  message?: string,
): void {
  assertions.ok(
    actual >= expected,
    message ?? `Expected ${actual} >= ${expected}`,
  );
}

/** Fails unless `actual < expected`. */
export function assertLess<T extends number | bigint>(
  actual: T,
  expected: T,
  message?: string,
): void {
  assertions.ok(
    actual < expected,
    message ?? `Expected ${actual} < ${expected}`,
  );
}

/** Fails unless `actual <= expected`. */
export function assertLessOrEqual<T extends number | bigint>(
  actual: T,
  expected: T,
  message?: string,
): void {
  assertions.ok(
    actual <= expected,
    message ?? `Expected ${actual} <= ${expected}`,
  );
}

/** Fails unless `body` throws such an error, which it returns. */
export function assertThrows<E extends Error = Error>(
  body: () => unknown,
  errorClass?: ErrorClass<E>,
  messageIncludes?: string,
): E {
  try {
    body();
  } catch (error) {
    return checkError(error, errorClass, messageIncludes);
  }
  fail(`Expected ${errorClass?.name ?? "an error"}, nothing was thrown`);
}

/** Fails unless the promise of `body` rejects with such an error. */
export async function assertRejects<E extends Error = Error>(
  body: () => PromiseLike<unknown>,
  errorClass?: ErrorClass<E>,
  messageIncludes?: string,
): Promise<E> {
  // A synchronous throw is not a rejection: it leaves through here.
  const promise = body();
  try {
    await promise;
  } catch (error) {
    return checkError(error, errorClass, messageIncludes);
  }
  fail(`Expected ${errorClass?.name ?? "an error"}, the promise resolved`);
}

/** Fails. */
export function fail(message = "Failed"): never {
  throw new assertions.AssertionError({ message });
}

// Node refuses `undefined` for a message; its types know no optional string.
function because(message: string | undefined): [string] {
  return (message === undefined ? [] : [message]) as unknown as [string];
}

function checkError<E extends Error>(
  thrown: unknown,
  errorClass: ErrorClass<E> | undefined,
  messageIncludes: string | undefined,
): E {
  if (!(thrown instanceof Error)) {
    fail(`Expected an Error, ${describe(thrown)} was thrown`);
  }
  const named = `${thrown.name}: ${thrown.message}`;
  if (errorClass !== undefined && !(thrown instanceof errorClass)) {
    throw new assertions.AssertionError({
      message: `Expected ${errorClass.name}, got ${named}\n${thrown.stack}`,
    });
  }
  if (messageIncludes && !thrown.message.includes(messageIncludes)) {
    fail(`Expected a message with "${messageIncludes}", got ${named}`);
  }
  return thrown as E;
}

type Bytes = Uint8Array | ArrayBuffer;

function isBytes(value: unknown): value is Bytes {
  return value instanceof Uint8Array || value instanceof ArrayBuffer;
}

function describeDifference(
  actual: Bytes,
  expected: Bytes,
): string | undefined {
  const actualClass = actual.constructor.name;
  const expectedClass = expected.constructor.name;
  if (actualClass !== expectedClass) {
    return `Expected ${expectedClass}, got ${actualClass}`;
  }
  const left = actual instanceof ArrayBuffer ? new Uint8Array(actual) : actual;
  const right = expected instanceof ArrayBuffer
    ? new Uint8Array(expected)
    : expected;
  const count = Math.min(left.length, right.length);
  let offset = 0;
  while (offset < count && left[offset] === right[offset]) offset++;
  if (offset === left.length && offset === right.length) return undefined;
  return `Bytes differ at offset ${offset}: ` +
    `expected ${excerpt(right, offset)} (${right.length} bytes), ` +
    `got ${excerpt(left, offset)} (${left.length} bytes)`;
}

function excerpt(bytes: Uint8Array, offset: number): string {
  const end = Math.min(bytes.length, offset + 16);
  const hex = Array.from(
    bytes.subarray(offset, end),
    (byte) => byte.toString(16).padStart(2, "0"),
  );
  return `${hex.join(" ") || "the end"}${end < bytes.length ? " …" : ""}`;
}

function describe(value: unknown): string {
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  if (typeof value === "object" && value !== null) {
    return value.constructor?.name ?? "an object";
  }
  return String(value);
}
