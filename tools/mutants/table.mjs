/**
 * Defects that somebody could make, each killed by a suite that is named.
 *
 * A mutant is one or more pieces of the source, each found exactly once, and
 * what is put in its place. `smoke` marks those of the small budget: quick,
 * and of different kinds.
 */

/** Every mutant; docs/testing.md has the same table in words. */
export const MUTANTS = [
  {
    name: "acknowledge before sync",
    killer: "A-2",
    smoke: true,
    edits: [[
      "src/sync_rounds.ts",
      "this.#waiters.push({ round: this.#started + 1, index, resolve, reject });",
      "this.#waiters.push({ round: 0, index, resolve, reject });\n" +
      "    queueMicrotask(() => this.#settle(0));",
    ]],
  },
  {
    name: "no directory sync",
    killer: "A-2",
    edits: [[
      "src/sync_rounds.ts",
      "if (round.directory) wanted.push(this.#directory);",
      "",
    ]],
  },
  {
    name: "mark raised before the sync has returned",
    killer: "A-1",
    smoke: true,
    edits: [[
      "src/sync_rounds.ts",
      "const round = this.#begin();\n    this.#running = round;",
      "const round = this.#begin();\n    this.#running = round;\n" +
      "    this.#raise(round.place);",
    ]],
  },
  {
    name: "a failed sync is tried again",
    killer: "A-1",
    edits: [[
      "src/sync_rounds.ts",
      "for (const syncable of this.#syncables(round)) syncable.sync();",
      "for (const one of this.#syncables(round)) {\n" +
      "        try { one.sync(); } catch { one.sync(); }\n      }",
    ]],
  },
  {
    name: "frame checksum without salt",
    killer: "A-1",
    edits: [
      ["src/frame.ts", "(this.#salt ^ offset) >>> 0", "offset"],
      ["src/frame.ts", "crcBegin(salt ^ offset)", "crcBegin(offset)"],
    ],
  },
  {
    name: "frame checksum without offset",
    killer: "frame",
    smoke: true,
    edits: [
      ["src/frame.ts", "(this.#salt ^ offset) >>> 0", "this.#salt"],
      ["src/frame.ts", "crcBegin(salt ^ offset)", "crcBegin(salt)"],
    ],
  },
  {
    name: "length of a frame unchecked",
    killer: "F-1",
    edits: [["src/frame.ts", " || length > limit - offset", ""]],
  },
  {
    name: "published before it is written",
    killer: "A-4",
    edits: [[
      "src/writer.ts",
      "const flags = FLAG.entry;",
      "const flags = FLAG.entry;\n      segment.end = end + bytes;",
    ]],
  },
  {
    name: "survivors are not written again",
    killer: "A-1",
    edits: [[
      "src/repair.ts",
      "rewriteRange(file, Math.max(start, HEADER_BYTES), segment.end);",
      "",
    ]],
  },
  {
    name: "a salt is used again",
    killer: "A-1",
    edits: [["src/make_segment.ts", "salt: randomSalt(storage),", "salt: 7,"]],
  },
  {
    name: "end of a batch not required",
    killer: "A-1",
    edits: [["src/scan.ts", "if (!this.#inBatch) {\n", "{\n"]],
  },
  {
    name: "lock not taken",
    killer: "worker",
    smoke: true,
    edits: [[
      "src/open.ts",
      "lock = directory.lock();",
      "lock = { verify(): void {}, release(): void {} };",
    ]],
  },
  {
    name: "sync target not clamped by a truncation",
    killer: "A-5",
    edits: [[
      "src/sync_rounds.ts",
      "const places = [this.#running?.place, this.#blocked?.place];",
      "const places: (Place | undefined)[] = [];",
    ]],
  },
  {
    name: "one descriptor for both syncs",
    killer: "contract",
    edits: [["ffi/directory.ts", "soonFd = second.fd;", ""]],
  },
  {
    name: "segments unlinked before the manifest is durable",
    killer: "A-2",
    edits: [[
      "src/removal.ts",
      "      yield* keeper.install(room, false);",
      "      discard(folder, { gone, freed: undefined });\n" +
      "      yield* keeper.install(room, false);",
    ]],
  },
  {
    name: "a consumer is not lowered",
    killer: "A-5",
    smoke: true,
    edits: [[
      "src/removal.ts",
      "this.#parts.consumers.lower(state.nextIndex - 1, state.generation);",
      "",
    ]],
  },
  {
    name: "a link vouches by existing",
    killer: "A-1",
    edits: [[
      "src/recovery.ts",
      "for (const { link } of chain.segments) this.#raise(link.mark);",
      "for (const { link } of chain.segments) {\n" +
      "      const { previousNumber: number, previousEnd: offset } = link;\n" +
      "      this.#raise({ number, offset });\n    }",
    ]],
  },
  {
    name: "generation not raised by a truncation",
    killer: "A-1",
    edits: [[
      "src/rotation.ts",
      "generation: this.#state.generation + (cause === CAUSE.filled ? 0 : 1),",
      "generation: this.#state.generation,",
    ]],
  },
  {
    name: "a read error is taken for a torn tail",
    killer: "A-4",
    edits: [[
      "src/scan.ts",
      "this.#filled = this.#file.readAt(this.bytes, offset);",
      "try {\n        this.#filled = this.#file.readAt(this.bytes, offset);\n" +
      "      } catch {\n        this.#filled = 0;\n      }",
    ]],
  },
  {
    name: "a failed write is not taken back",
    killer: "A-4",
    edits: [[
      "src/writer.ts",
      "segment.file.zero(segment.end, end);",
      "end.toFixed();",
    ]],
  },
  {
    name: "closed before the manifest is durable",
    killer: "A-1",
    edits: [[
      "src/closing.ts",
      "rounds.touchNames();\n  yield [rounds];",
      "",
    ]],
  },
  {
    name: "a blocking sync settles what one in flight covers",
    killer: "A-4",
    edits: [["src/sync_rounds.ts", "if (running === undefined) {\n", "{\n"]],
  },
  {
    name: "a transaction without its end flag",
    killer: "A-4",
    edits: [[
      "src/writer.ts",
      "const flags = kind | batchFlag(i, last);",
      "const flags = transactionId !== undefined && i === last\n" +
      "        ? kind\n        : kind | batchFlag(i, last);",
    ]],
  },
  {
    name: "a transaction without batch flags",
    killer: "transaction_atomic",
    edits: [[
      "src/writer.ts",
      "const flags = kind | batchFlag(i, last);",
      "const flags = kind | (transactionId ? 0 : batchFlag(i, last));",
    ]],
  },
  {
    name: "a descriptor is closed while a sync is on it",
    killer: "contract",
    edits: [[
      "ffi/descriptors.ts",
      "if (!this.#pending) closeQuietly(this.#soon);",
      "closeQuietly(this.#soon);",
    ]],
  },
  {
    name: "index block believed without its checksum",
    killer: "A-3",
    smoke: true,
    edits: [[
      "src/segment.ts",
      "if (!isBlockValid(this.#block, this.#salt, at, need)) return false;",
      "if (isBlockValid === undefined) return at + need < 0;",
    ]],
  },
  {
    name: "leftovers unlinked before the cut that left them is synced",
    killer: "death_then_power",
    edits: [[
      "src/repair.ts",
      "const { directory, chain, verdict } = parts;\n" +
      "  const segments = chainSegments(directory, chain, verdict);",
      "const { directory, chain, verdict } = parts;\n" +
      "  for (const { name, keep } of chain.leftovers) {\n" +
      "    if (!keep) directory.remove(name);\n  }\n" +
      "  const segments = chainSegments(directory, chain, verdict);",
    ]],
  },
  {
    name: "torn tail not cut at opening",
    killer: "A-1",
    edits: [[
      "src/repair.ts",
      "if (cutHere) repaired = yield* cut(parts, repaired);",
      "if (cutHere && segments.length < 0) repaired = yield* cut(parts, repaired);",
    ]],
  },
  {
    name: "a transaction is committed twice",
    killer: "A-5",
    edits: [[
      "src/transaction.ts",
      'this.#checkPending("commit");',
      "",
    ], ["src/transaction.ts", "    this.#entries = [];\n    this", "    this"]],
  },
  {
    name: "a write waits in memory for the next one",
    killer: "B-1",
    edits: [[
      "src/writer.ts",
      "staged.payloadBytes);\n      file.flushWrites();",
      "staged.payloadBytes);\n      if (index % 2 === 0) file.flushWrites();",
    ]],
  },
  {
    name: "positions found after a crash are not written again",
    killer: "consumer_crash",
    edits: [[
      "src/consumers.ts",
      "if (closed && index === position) continue;",
      "if (index === position) continue;",
    ]],
  },
  {
    name: "the manifest of an open log says closed",
    killer: "A-1",
    edits: [[
      "src/start.ts",
      "yield* keeper.install(given, false);",
      "yield* keeper.install(given, true);",
    ]],
  },
  {
    name: "space is not allocated",
    killer: "D-1",
    edits: [[
      "ffi/posix.ts",
      "const errno = this.#fallocate(fd, 0, 0, bytes);",
      "const errno = this.#fallocate(fd, 0, bytes - 1, 1);",
    ]],
  },
  {
    name: "a failed fdatasync is not told",
    killer: "C-1",
    edits: [[
      "ffi/descriptors.ts",
      "else fs.fdatasyncSync(this.#blocking);\n    } catch (error) {\n" +
      "      throw systemError(this.#attempt, error);",
      "else fs.fdatasyncSync(this.#blocking);\n    } catch (error) {\n" +
      "      if (this.#isFolder) throw systemError(this.#attempt, error);",
    ]],
  },
  {
    name: "what is no regular file is opened",
    killer: "F-2",
    edits: [["ffi/descriptors.ts", "assertRegular(attempt, seen);", ""]],
  },
  {
    name: "shown to readers before it is written",
    killer: "E-1",
    edits: [[
      "src/writer.ts",
      "      this.#writeBatch(segment, batch, first, bytes, transactionId);",
      "      segment.end = end;\n      this.publisher.publish();\n" +
      "      segment.end = end - bytes;\n" +
      "      this.#writeBatch(segment, batch, first, bytes, transactionId);",
    ]],
  },
  {
    name: "the sequence of the live page stays as it is",
    killer: "E-1",
    edits: [[
      "src/publisher.ts",
      "this.#setSequence(sequence + 2);",
      "this.#setSequence(sequence);",
    ]],
  },
  {
    name: "a truncation is shown with the next append",
    killer: "E-1",
    edits: [[
      "src/removal.ts",
      "    writer.forgetTerm();\n    writer.publisher.publish();",
      "    writer.forgetTerm();",
    ]],
  },
  {
    name: "a reader does not look again when a file is gone",
    killer: "E-1",
    edits: [[
      "src/live_state.ts",
      "if (!gone || !this.#lookAgain(error, tries)) throw error;",
      "if (gone || !this.#lookAgain(error, tries)) throw error;",
    ]],
  },
  {
    name: "the end of a batch is not required by a reader",
    killer: "E-1",
    edits: [[
      "src/live_tail.ts",
      "if ((flags & FLAG.batchContinues) !== 0) continue;",
      "",
    ]],
  },
  {
    name: "a run of frames is believed unchecked",
    killer: "frame_run",
    edits: [[
      "src/frame_run.ts",
      "const sound = crc32(all, 0xffffffff) === (~state >>> 0);",
      "const sound = all.length > 0;",
    ]],
  },
  {
    name: "of several segments in a round the first is synced",
    killer: "A-1",
    edits: [[
      "src/sync_in_turn.ts",
      "if (error !== undefined || at === segments.length) done(error);",
      "if (error !== undefined || at > 0) done(error);",
    ]],
  },
  {
    name: "a spare of any size is used",
    killer: "A-1",
    edits: [[
      "src/spare.ts",
      "if (file?.bytes !== bytes) return undefined;",
      "if (file === undefined) return undefined;",
    ]],
  },
  {
    name: "a footer that ends too early is kept by a cut",
    killer: "format",
    edits: [[
      "src/repair.ts",
      "const expected = { firstIndex: baseIndex, lastIndex, end };",
      "const expected = { firstIndex: baseIndex, lastIndex, end: 0 };",
    ]],
  },
  {
    name: "a batch inside of a batch takes its staged entries",
    killer: "append",
    edits: [["src/batch_stage.ts", "    this.#kept = [];\n", ""]],
  },
  {
    name: "a large frame does not wait for those before it",
    killer: "batch",
    edits: [[
      "src/segment_file.ts",
      "if (this.#pendingBytes > 0 && this.#pendingBytes + bytes > WRITE_BYTES) {",
      "if (this.#pendingBytes > 2 * WRITE_BYTES) {",
    ]],
  },
  {
    name: "what a failed write left in memory is written later",
    killer: "batch",
    edits: [["src/segment_file.ts", "staging?.bytes.fill(0);", ""]],
  },
];
