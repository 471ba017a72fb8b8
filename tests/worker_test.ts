import { once } from "node:events";
import process from "node:process";
import { describe } from "node:test";
import { Worker } from "node:worker_threads";
import { WalLockedError } from "../mod.ts";
import { assertEquals, assertRejects } from "./_assert.ts";
import { onEach, onEachTwin, type Place, REAL, texts } from "./_wal.ts";

/** Runs `_children/log_worker.ts`; ended when the test ends. */
class LogWorker implements AsyncDisposable {
  readonly #worker = new Worker(
    new URL("./_children/log_worker.ts", import.meta.url),
  );

  async ask(command: string, { kind, path }: Place): Promise<string> {
    this.#worker.postMessage({ command, kind, path });
    const [answer] = await once(this.#worker, "message");
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#worker.terminate();
  }
}

describe("a log and worker threads", () => {
  onEachTwin(
    "a worker is refused what this thread has open",
    async (place, twin) => {
      await using worker = new LogWorker();
      const wal = await twin.open(place);
      await twin.append(wal, "from here");
      assertEquals(await worker.ask("open", place), `LOCKED ${process.pid}`);
      await twin.append(wal, "still here");
      await twin.close(wal);
      assertEquals(await worker.ask("open", place), "open 2");
      const error = await assertRejects(() => twin.open(place), WalLockedError);
      assertEquals(error.pid, process.pid);
      assertEquals(await worker.ask("append", place), "appended 3");
      assertEquals(await worker.ask("close", place), "closed");
      using again = await twin.open(place);
      assertEquals(texts(again), ["from here", "still here", "from a worker"]);
    },
    REAL,
  );

  onEach("a log of its own in each thread", async (place) => {
    await using worker = new LogWorker();
    const other = { ...place, path: `${place.path}-other` };
    using wal = place.openSync();
    assertEquals(await worker.ask("open", other), "open 0");
    for (let i = 1; i <= 20; i++) {
      assertEquals(wal.appendSync("from here"), i);
      assertEquals(await worker.ask("append", other), `appended ${i}`);
    }
    assertEquals(await worker.ask("close", other), "closed");
    assertEquals(wal.length, 20);
  }, REAL);
});
