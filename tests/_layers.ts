/**
 * The layers of the core: a file of `src/` imports from lower layers only.
 * A new file is entered here first.
 *
 * @module
 */

/** The files of each layer, lowest first. */
export const LAYERS: readonly (readonly string[])[] = [
  [
    "assert.ts",
    "crc32.ts",
    "errors.ts",
    "format.ts",
    "logger.ts",
    "mark.ts",
    "percentiles.ts",
  ],
  ["encoder.ts", "fields.ts", "storage.ts"],
  [
    "binary_encoder.ts",
    "frame.ts",
    "go_folder.ts",
    "header.ts",
    "json_encoder.ts",
    "manifest.ts",
    "options.ts",
    "steps.ts",
  ],
  ["scan.ts", "segment_file.ts", "segment_index.ts"],
  ["chain.ts", "index_rebuild.ts"],
  ["recovery.ts", "segment.ts"],
  ["log_state.ts", "sync_rounds.ts"],
];

/** Imports within one layer that are wanted: "from.ts -> to.ts". */
export const SAME_LAYER_IMPORTS: readonly string[] = [];
