/**
 * Where the log tells what it did unasked.
 *
 * @module
 */

/** Takes messages; `console` fits. None is called in the write path. */
export interface Logger {
  /** Details for those who look for a fault. */
  debug(message: string, ...details: unknown[]): void;
  /** What the log did by itself. */
  info(message: string, ...details: unknown[]): void;
  /** What somebody should look at. */
  warn(message: string, ...details: unknown[]): void;
  /** What went wrong. */
  error(message: string, ...details: unknown[]): void;
}
