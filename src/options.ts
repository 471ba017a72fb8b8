/**
 * The options of a log: defaults, and the check of every field before any
 * I/O.
 *
 * @module
 */

import { BinaryEncoder } from "./binary_encoder.ts";
import {
  checkNames,
  checkTimeout,
  checkWholeIn,
  isObject,
  show,
} from "./checks.ts";
import type { Encoder } from "./encoder.ts";
import { JsonEncoder } from "./json_encoder.ts";
import {
  alignPage,
  FORMAT_NAME_BYTES,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
} from "./format.ts";
import type { Logger } from "./logger.ts";
import { checkRetention, type RetentionOptions } from "./retention_options.ts";
import type { StoragePort, WalStorage } from "./storage.ts";

/** When an append counts as done. */
export type Durability = "always" | "interval" | "never";

/** How to open a log for reading. */
export interface ReaderOptions {
  /** A custom encoder, when the log was made with one. */
  format?: Encoder | undefined;
  /** Give views of the mapped file instead of copies. @default {false} */
  zeroCopy?: boolean | undefined;
  /** Check each entry's checksum when it is read. @default {true} */
  verifyReads?: boolean | undefined;
  /** Told what the log does unasked; `console` fits. */
  logger?: Logger | undefined;
  /** Where the log lives; mapped where FFI is granted, else files. */
  storage?: WalStorage | undefined;
  /** "salvage" opens a damaged log as far as it is readable; none refuses. */
  recovery?: "salvage" | undefined;
}

/** How to open a log for writing. */
export interface WalOptions extends Omit<ReaderOptions, "format" | "recovery"> {
  /** Size of a segment file, 64 KiB to 1 GiB. @default {67108864} */
  segmentBytes?: number | undefined;
  /** When an append counts as done. @default {"always"} */
  sync?: Durability | undefined;
  /** Time between syncs with `sync: "interval"`, in ms. @default {1000} */
  syncIntervalMs?: number | undefined;
  /** How entries are stored; the log's own, else "binary". */
  format?: "binary" | "json" | Encoder | undefined;
  /** Whether a torn tail is cut ("tail") or refused. @default {"tail"} */
  recovery?: "strict" | "tail" | undefined;
  /** How much of the log is kept; without, all of it. */
  retention?: RetentionOptions | undefined;
  /** How long a transaction may stay pending, in ms. @default {30000} */
  transactionTimeoutMs?: number | undefined;
  /** The most entries of one transaction. @default {1000} */
  maxTransactionEntries?: number | undefined;
  /** How often expired transactions are cleaned up. @default {300000} */
  transactionCleanupIntervalMs?: number | undefined;
  /** The largest data of one entry, in bytes. @default {16777216} */
  maxEntryBytes?: number | undefined;
  /** Permission bits of new folders. @default {0o750} */
  directoryMode?: number | undefined;
  /** Permission bits of new files. @default {0o640} */
  fileMode?: number | undefined;
}

/** The defaults that `openWal` fills in, frozen. */
export const defaultOptions: Readonly<WalOptions> = Object.freeze({
  segmentBytes: 64 * 1024 * 1024,
  sync: "always",
  syncIntervalMs: 1000,
  recovery: "tail",
  transactionTimeoutMs: 30_000,
  maxTransactionEntries: 1000,
  transactionCleanupIntervalMs: 300_000,
  maxEntryBytes: 16 * 1024 * 1024,
  zeroCopy: false,
  verifyReads: true,
  directoryMode: 0o750,
  fileMode: 0o640,
});

/** Options with every default filled in. */
export interface CheckedOptions {
  /** Rounded up to whole pages. */
  readonly segmentBytes: number;
  /** When an append counts as done. */
  readonly sync: Durability;
  /** Time between syncs. */
  readonly syncIntervalMs: number;
  /** What the caller asked for; undefined leaves it to the log. */
  readonly format: string | undefined;
  /** The caller's encoder, if it is a custom one. */
  readonly encoder: Encoder | undefined;
  /** Whether a torn tail is refused. */
  readonly strict: boolean;
  /** How much of the log is kept. */
  readonly retention: RetentionOptions | undefined;
  /** How long a transaction may stay pending. */
  readonly transactionTimeoutMs: number;
  /** The most entries of one. */
  readonly maxTransactionEntries: number;
  /** How often expired ones are cleaned up. */
  readonly transactionCleanupIntervalMs: number;
  /** The largest data of one entry. */
  readonly maxEntryBytes: number;
  /** Whether reads give views. */
  readonly zeroCopy: boolean;
  /** Whether reads check. */
  readonly verifyReads: boolean;
  /** Permission bits of new folders. */
  readonly directoryMode: number;
  /** Permission bits of new files. */
  readonly fileMode: number;
  /** Told what the log does unasked. */
  readonly logger: Logger | undefined;
  /** The storage asked for. */
  readonly storage: StoragePort | undefined;
}

const KNOWN = [
  "segmentBytes",
  "sync",
  "syncIntervalMs",
  "format",
  "recovery",
  "retention",
  "transactionTimeoutMs",
  "maxTransactionEntries",
  "transactionCleanupIntervalMs",
  "maxEntryBytes",
  "zeroCopy",
  "verifyReads",
  "directoryMode",
  "fileMode",
  "logger",
  "storage",
];

/** Checks all options; throws `TypeError` or `RangeError`, before any I/O. */
export function checkOptions(options: WalOptions | undefined): CheckedOptions {
  if (options !== undefined && !isObject(options)) {
    throw new TypeError(
      `Cannot open log: options is ${show(options)}, expected an object`,
    );
  }
  const given: WalOptions = options ?? {};
  checkNames("options", given, KNOWN);
  const format = checkFormat(given.format);
  const recovery = oneOf("recovery", given.recovery, ["tail", "strict"]);
  return {
    segmentBytes: alignPage(
      wholeNumber("segmentBytes", given.segmentBytes, {
        least: SEGMENT_BYTES_MIN,
        most: SEGMENT_BYTES_MAX,
      }),
    ),
    sync: oneOf("sync", given.sync, ["always", "interval", "never"]),
    syncIntervalMs: timeOf("syncIntervalMs", given),
    retention: checkRetention(given.retention),
    transactionTimeoutMs: timeOf("transactionTimeoutMs", given),
    transactionCleanupIntervalMs: timeOf("transactionCleanupIntervalMs", given),
    maxTransactionEntries: wholeNumber(
      "maxTransactionEntries",
      given.maxTransactionEntries,
      { least: 1, most: 2 ** 24 },
    ),
    ...format,
    strict: recovery === "strict",
    maxEntryBytes: wholeNumber("maxEntryBytes", given.maxEntryBytes, {
      least: 0,
      most: SEGMENT_BYTES_MAX - 64 * 1024,
    }),
    zeroCopy: checkBoolean("zeroCopy", given.zeroCopy),
    verifyReads: checkBoolean("verifyReads", given.verifyReads),
    directoryMode: checkMode("directoryMode", given.directoryMode),
    fileMode: checkMode("fileMode", given.fileMode),
    logger: checkLogger(given.logger),
    storage: checkStorage(given.storage),
  };
}

type Time =
  | "syncIntervalMs"
  | "transactionTimeoutMs"
  | "transactionCleanupIntervalMs";

function timeOf(name: Time, given: WalOptions): number {
  const value = given[name] === undefined ? defaultOptions[name] : given[name];
  return checkTimeout("Cannot open log", name, value);
}

function wholeNumber(
  name: "segmentBytes" | "maxEntryBytes" | "maxTransactionEntries",
  value: unknown,
  allowed: { least: number; most: number },
): number {
  const given = value === undefined ? defaultOptions[name] : value;
  return checkWholeIn("Cannot open log", name, given, allowed);
}

function oneOf<T extends string>(
  name: "sync" | "recovery",
  value: unknown,
  allowed: readonly T[],
): T {
  const given = value === undefined ? defaultOptions[name] : value;
  const expected = `expected one of ${allowed.map(show).join(", ")}`;
  const message = `Cannot open log: ${name} is ${show(given)}, ${expected}`;
  if (typeof given !== "string") throw new TypeError(message);
  if (!allowed.includes(given as T)) throw new RangeError(message);
  return given as T;
}

/** Checks an option that is true or false. */
export function checkBoolean(
  name: "zeroCopy" | "verifyReads",
  value: unknown,
): boolean {
  const given = value === undefined ? defaultOptions[name] : value;
  if (typeof given === "boolean") return given;
  throw new TypeError(
    `Cannot open log: ${name} is ${show(given)}, expected true or false`,
  );
}

function checkMode(
  name: "directoryMode" | "fileMode",
  value: unknown,
): number {
  const given = value === undefined ? defaultOptions[name] : value;
  const expected = "expected permission bits from 0 to 0o7777";
  const message = `Cannot open log: ${name} is ${show(given)}, ${expected}`;
  if (typeof given !== "number") throw new TypeError(message);
  if (!Number.isInteger(given) || given < 0 || given > 0o7777) {
    throw new RangeError(message);
  }
  return given;
}

/** Checks a format: its name, and the encoder if it is a custom one. */
export function checkFormat(
  format: unknown,
): { format: string | undefined; encoder: Encoder | undefined } {
  if (format === undefined) return { format: undefined, encoder: undefined };
  const expected = 'expected "binary", "json" or an encoder';
  if (typeof format === "string") {
    if (format === "binary" || format === "json") {
      return { format, encoder: undefined };
    }
    throw new RangeError(
      `Cannot open log: format is ${show(format)}, ${expected}`,
    );
  }
  const encoder = format as Partial<Encoder> | null;
  const wellFormed = isObject(format) && typeof encoder!.name === "string" &&
    typeof encoder!.encode === "function" &&
    typeof encoder!.decode === "function";
  if (!wellFormed) {
    throw new TypeError(
      `Cannot open log: format is ${show(format)}, ${expected} with name, ` +
        `encode and decode`,
    );
  }
  const name = encoder!.name!;
  checkEncoderName(name);
  const own = format instanceof BinaryEncoder || format instanceof JsonEncoder;
  if (!own && (name === "binary" || name === "json")) {
    throw new RangeError(
      `Cannot open log: format is an encoder whose name is ${
        show(name)
      }, expected a ` +
        `name that no encoder of this library has`,
    );
  }
  return { format: name, encoder: own ? undefined : encoder as Encoder };
}

function checkEncoderName(name: string): void {
  const bytes = new TextEncoder().encode(name).length;
  const wellFormed = !name.includes("\0") && !/\p{Surrogate}/u.test(name);
  if (wellFormed && bytes > 0 && bytes <= FORMAT_NAME_BYTES) return;
  throw new RangeError(
    `Cannot open log: format is an encoder whose name is ${
      show(name)
    }, expected a ` +
      `name of 1 to ${FORMAT_NAME_BYTES} bytes of text`,
  );
}

/** Checks a logger; what it throws stays with it. */
export function checkLogger(logger: unknown): Logger | undefined {
  if (logger === undefined) return undefined;
  const methods = ["debug", "info", "warn", "error"] as const;
  const wellFormed = isObject(logger) &&
    methods.every((name) =>
      typeof (logger as Partial<Logger>)[name] === "function"
    );
  if (wellFormed) return guarded(logger as Logger);
  throw new TypeError(
    `Cannot open log: logger is ${show(logger)}, expected an object with ` +
      methods.join(", "),
  );
}

/** A logger is the caller's program: its failure is not the log's. */
function guarded(logger: Logger): Logger {
  const call =
    (name: keyof Logger) => (message: string, ...details: unknown[]): void => {
      try {
        logger[name](message, ...details);
      } catch {
        // There is nobody to tell: the logger is who would be told.
      }
    };
  return {
    debug: call("debug"),
    info: call("info"),
    warn: call("warn"),
    error: call("error"),
  };
}

/** Checks a storage. */
export function checkStorage(storage: unknown): StoragePort | undefined {
  if (storage === undefined) return undefined;
  const port = storage as Partial<StoragePort> | null;
  if (isObject(storage) && typeof port!.openDirectory === "function") {
    return storage as StoragePort;
  }
  throw new TypeError(
    `Cannot open log: storage is ${show(storage)}, expected what ` +
      `mappedStorage(), filesStorage() or memoryStorage() returned`,
  );
}

/** A directory as given by the caller, as a path. */
export function checkDirectory(directory: unknown): string {
  const path = directory instanceof URL ? pathOf(directory) : directory;
  if (typeof path === "string" && path !== "" && !path.includes("\0")) {
    return path.length > 1 && path.endsWith("/") ? path.slice(0, -1) : path;
  }
  throw new TypeError(
    `Cannot open log: directory is ${show(directory)}, expected a path or a ` +
      `file: URL`,
  );
}

function pathOf(url: URL): string | undefined {
  if (url.protocol !== "file:" || url.host !== "") return undefined;
  try {
    return decodeURIComponent(url.pathname);
  } catch {
    return undefined;
  }
}
