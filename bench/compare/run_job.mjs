/** Starts one measurement in a process of its own and reads its answer. */

import { spawn } from "node:child_process";
import process from "node:process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

const SCRIPT = fileURLToPath(new URL("./measure.mjs", import.meta.url));
const ROOT = dirname(dirname(dirname(SCRIPT)));
const DENO = ["run", "-A", "--no-check", "--node-modules-dir=manual"];

/**
 * Runs a job and returns its figures, or `{ error }`; never throws. A process
 * that outlives `timeoutMs` is killed.
 */
export async function runJob(contender, job) {
  const { status, signal, output, complaint } = await start(
    contender.executable,
    argumentsOf(contender, job),
    job.timeoutMs ?? 30_000,
  );
  const line = output.trim().split("\n").at(-1);
  try {
    const figures = JSON.parse(line);
    if (figures.error) figures.error = withoutPaths(figures.error, job);
    return figures;
  } catch {
    if (signal === "SIGKILL") return { error: "took too long" };
    const end = signal ?? `exit code ${status}`;
    const text = `died: ${end}: ${tellingLine(complaint)}`;
    return { error: withoutPaths(text, job) };
  }
}

function argumentsOf(contender, job) {
  if (contender.runtime === "C") {
    const { measure, folder, bytes, budgetMs, bytesMax } = job;
    return [measure, folder, bytes, budgetMs, bytesMax].map(String);
  }
  const { module, storage } = contender;
  const task = JSON.stringify({ ...job, module, storage });
  return [...(contender.runtime === "deno" ? DENO : []), SCRIPT, task];
}

function start(executable, args, timeoutMs) {
  return new Promise((settle) => {
    const child = spawn(executable, args, {
      cwd: ROOT,
      env: { ...process.env, NODE_NO_WARNINGS: "1" },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let complaint = "";
    child.stdout.setEncoding("utf8").on("data", (text) => output += text);
    child.stderr.setEncoding("utf8").on("data", (text) => complaint += text);
    const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
    child.on("error", (error) => complaint += error.message);
    child.on("close", (status, signal) => {
      clearTimeout(timer);
      settle({ status, signal, output, complaint });
    });
  });
}

/** The line of a crash report that says most. */
function tellingLine(complaint) {
  const lines = complaint.trim().split("\n");
  const telling = /panic[(:]|undefined symbol|error:/i;
  return lines.find((line) => telling.test(line)) ?? lines.at(-1);
}

/** What is written down is true on every machine. */
function withoutPaths(text, job) {
  const bare = text.replaceAll(ROOT, ".");
  return job.folder ? bare.replaceAll(job.folder, "log") : bare;
}
