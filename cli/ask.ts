/**
 * Asking the person at the terminal.
 *
 * @module
 */

import process from "node:process";
import { createInterface } from "node:readline";

/** Whether there is somebody to ask. */
export function canAsk(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true;
}

/** Shows a question; true only for the answer "yes". */
export function ask(question: string): Promise<boolean> {
  const lines = createInterface({
    input: process.stdin,
    output: process.stderr,
  });
  return new Promise((resolve) => {
    // The end of the input is no answer.
    lines.once("close", () => resolve(false));
    lines.question(question, (answer) => {
      resolve(answer.trim().toLowerCase() === "yes");
      lines.close();
    });
  });
}
