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
    "cursor.ts",
    "errors.ts",
    "format.ts",
    "logger.ts",
    "mark.ts",
    "percentiles.ts",
  ],
  // Fields of records; the port; what is public and plain.
  [
    "checks.ts",
    "crc_shift.ts",
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
    "retention_options.ts",
    "steps.ts",
    "wakeups.ts",
  ],
  ["frame_run.ts", "live_page.ts", "options.ts"],
  ["input.ts", "live_view.ts", "live_wait.ts", "reader_options.ts"],
  [
    "batch.ts",
    "batch_stage.ts",
    "calls.ts",
    "fresh_file.ts",
    "position_file.ts",
    "proven_flags.ts",
    "scan.ts",
    "segment_file.ts",
    "segment_index.ts",
  ],
  // Segments and what they make up.
  [
    "folder.ts",
    "follow.ts",
    "frame_search.ts",
    "index_rebuild.ts",
    "lost_salt.ts",
    "manifest_keeper.ts",
    "position_folder.ts",
    "read_options.ts",
    "saved_folder.ts",
  ],
  [
    "chain.ts",
    "entry_iterator.ts",
    "frame_walk.ts",
    "index_check.ts",
    "segment_headers.ts",
  ],
  ["recovery.ts", "remains.ts", "segment.ts"],
  ["spare.ts", "sync_in_turn.ts"],
  [
    "catch_up.ts",
    "cut_folder.ts",
    "damage.ts",
    "live_tail.ts",
    "log_state.ts",
    "look.ts",
    "sync_rounds.ts",
  ],
  ["make_segment.ts"],
  [
    "entry_reader.ts",
    "found_log.ts",
    "log_findings.ts",
    "publisher.ts",
    "repair.ts",
    "rotation.ts",
    "seek.ts",
    "standing.ts",
    "trusted_end.ts",
  ],
  ["consumers.ts"],
  ["consumer.ts", "doubt.ts", "retention.ts", "truncate.ts", "writer.ts"],
  [
    "appends.ts",
    "idle_mark.ts",
    "reader.ts",
    "reader_consumers.ts",
    "survey.ts",
  ],
  [
    "rebuild_manifest.ts",
    "remake_index.ts",
    "salvage.ts",
    "transaction.ts",
    "verify.ts",
    "writable.ts",
  ],
  ["cut_log.ts", "still_log.ts"],
  ["live_state.ts"],
  ["live_log.ts"],
  ["repair_log.ts"],
  ["salvage_report.ts", "transactions.ts"],
  ["removal.ts", "wal_parts.ts"],
  ["closing.ts"],
  ["workings.ts"],
  // The log.
  ["wal.ts"],
  ["start.ts"],
  ["open.ts"],
  ["salvage_copy.ts"],
];

/** Imports within one layer that are wanted: "from.ts -> to.ts". */
export const SAME_LAYER_IMPORTS: readonly string[] = [];
