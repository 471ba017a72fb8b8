/**
 * Arguments of a command, checked: what is not understood is refused before
 * anything is done.
 *
 * @module
 */

import { parseArgs } from "node:util";
import { filesStorage, mappedStorage, StorageError } from "../mod.ts";
import type { StoragePort } from "../src/storage.ts";
import { parseTime, TIME_FORMS } from "./time.ts";

/** The command was called wrongly: exit code 2. */
export class UsageError extends Error {
  /** The class's name. */
  override readonly name = "UsageError";
}

/** An input cannot be read: exit code 3. */
export class InputError extends Error {
  /** The class's name. */
  override readonly name = "InputError";
}

/** Options by name, and whether they take a value. */
export type OptionTypes = Readonly<Record<string, "string" | "boolean">>;

/** The arguments of one command. */
export class Arguments {
  /** What is not an option. */
  readonly positionals: readonly string[];
  readonly #values: Readonly<Record<string, unknown>>;

  /** Reads `args`; refuses options that are not in `types`. */
  constructor(args: readonly string[], types: OptionTypes) {
    const options = Object.fromEntries(
      Object.entries(types).map(([name, type]) => [name, { type }]),
    );
    // Not strict: the runtimes word their refusals differently.
    const { values, positionals, tokens } = parseArgs({
      args: [...args],
      options,
      strict: false,
      allowPositionals: true,
      tokens: true,
    });
    for (const token of tokens) {
      if (token.kind !== "option") continue;
      const { name, rawName, value } = token;
      const type = Object.hasOwn(types, name) ? types[name] : undefined;
      if (type === undefined) throw unknownOption(rawName, types);
      if (type === "string" && value === undefined) {
        throw new UsageError(`Option ${rawName} needs a value`);
      }
      if (type === "boolean" && value !== undefined) {
        throw new UsageError(`Option ${rawName} takes no value`);
      }
    }
    this.positionals = positionals;
    this.#values = values;
  }

  /** Whether the option was given. */
  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  /** The option's value. */
  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === "string" ? value : undefined;
  }

  /** The option's value, which must be a whole number of at least `least`. */
  count(name: string, least: number): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = /^\d+$/.test(text) ? Number(text) : NaN;
    if (Number.isSafeInteger(value) && value >= least) return value;
    throw new UsageError(
      `Option --${name} is "${text}", expected a whole number from ${least} on`,
    );
  }

  /** The option's value as nanoseconds since 1970. */
  time(name: string): bigint | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const time = parseTime(text);
    if (time !== undefined) return time;
    throw new UsageError(
      `Option --${name} is "${text}", expected ${TIME_FORMS}`,
    );
  }

  /** Refuses options that were given and do not go together. */
  conflict(name: string, others: readonly string[]): void {
    if (this.#values[name] === undefined) return;
    const other = others.find((one) => this.#values[one] !== undefined);
    if (other === undefined) return;
    throw new UsageError(
      `Options --${name} and --${other} do not go together`,
    );
  }

  /** The option's value, which must be one of `allowed`. */
  choice<T extends string>(
    name: string,
    allowed: readonly T[],
  ): T | undefined {
    const text = this.text(name);
    const found = allowed.find((value) => value === text);
    if (text === undefined || found !== undefined) return found;
    const expected = allowed.join(", ");
    throw new UsageError(
      `Option --${name} is "${text}", expected one of ${expected}`,
    );
  }

  /** The log's folder: the first argument. */
  directory(): string {
    const [directory] = this.positionals;
    if (directory !== undefined && directory !== "") return directory;
    throw new UsageError("The log's folder is missing");
  }

  /** The log's folder, which must be the only argument. */
  onlyDirectory(): string {
    const extra = this.positionals[1];
    if (extra === undefined) return this.directory();
    throw new UsageError(`Argument "${extra}" is one too many`);
  }

  /** The storage asked for, else the best there is. */
  storage(): StoragePort {
    const choice = this.choice("storage", ["mapped", "files"]);
    if (choice === "files") return filesStorage();
    try {
      return mappedStorage();
    } catch (error) {
      const optional = choice === undefined && error instanceof StorageError;
      if (!optional) throw error;
      return filesStorage();
    }
  }
}

function unknownOption(name: string, types: OptionTypes): UsageError {
  const known = Object.keys(types).map((one) => `--${one}`).join(", ");
  return new UsageError(`Option ${name} is unknown, expected ${known}`);
}
