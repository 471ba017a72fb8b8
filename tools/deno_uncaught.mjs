/**
 * Preloaded into `deno test`. Once a file has imported `node:test`, Deno
 * (2.9.6) reports neither an error thrown while the file loads nor one thrown
 * outside of every test: the run is green. This writes them to the file that
 * `WALRUS_UNCAUGHT` names, and the suite counts them.
 */
import { appendFileSync } from "node:fs";
import process from "node:process";

const path = process.env.WALRUS_UNCAUGHT;
if (path) {
  const note = (error) => {
    const text = error instanceof Error ? error.stack : String(error);
    appendFileSync(path, `${text}\n`);
    console.error(`uncaught: ${text}`);
  };
  globalThis.addEventListener("error", (event) => note(event.error));
  globalThis.addEventListener(
    "unhandledrejection",
    (event) => note(event.reason),
  );
}
