/**
 * The layers of the core: a file of `src/` imports from lower layers only.
 * A new file is entered here first.
 *
 * @module
 */

/** The files of each layer, lowest first. */
export const LAYERS: readonly (readonly string[])[] = [
  // Constants, errors, numbers.
  [
    "assert.ts",
    "copier.ts",
    "crc32.ts",
    "errors.ts",
    "format.ts",
    "logger.ts",
    "mark.ts",
    "percentiles.ts",
  ],
  // Fields of records; the port; what is public and plain.
  [
    "checks.ts",
    "cut.ts",
    "encoder.ts",
    "fields.ts",
    "finding.ts",
    "report.ts",
    "storage.ts",
  ],
  // Records as bytes; input as checked values.
  [
    "binary_encoder.ts",
    "consumer_record.ts",
    "entry.ts",
    "frame.ts",
    "go_folder.ts",
    "header.ts",
    "json_encoder.ts",
    "manifest.ts",
    "steps.ts",
  ],
  ["options.ts"],
  ["input.ts"],
  [
    "batch.ts",
    "calls.ts",
    "fresh_file.ts",
    "position_file.ts",
    "frame_search.ts",
    "scan.ts",
    "segment_file.ts",
    "segment_index.ts",
  ],
  // Segments and what they make up.
  ["folder.ts", "index_rebuild.ts", "manifest_keeper.ts"],
  ["chain.ts", "index_check.ts"],
  ["recovery.ts", "segment.ts"],
  ["cut_folder.ts", "log_state.ts", "sync_rounds.ts"],
  ["consumers.ts", "reader.ts", "repair.ts", "rotation.ts"],
  ["truncate.ts", "still_log.ts", "writer.ts"],
  ["appends.ts", "idle_mark.ts", "verify.ts"],
  ["transaction.ts"],
  ["transactions.ts"],
  ["consumer.ts", "removal.ts", "wal_parts.ts"],
  ["closing.ts"],
  // The log.
  ["wal.ts"],
  ["open.ts"],
];

/** Imports within one layer that are wanted: "from.ts -> to.ts". */
export const SAME_LAYER_IMPORTS: readonly string[] = [];
