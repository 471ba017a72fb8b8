/**
 * Writes what can be read of a damaged log into a new log beside it. The old
 * one is left as it is. In a log indexes have no gaps: entries behind a gap
 * move down, and a report in the new folder says where each went. Cut off by a
 * crash, the same call goes on where it ended.
 *
 * @module
 */

import type { Gap } from "./damage.ts";
import type { Encoder } from "./encoder.ts";
import { type Entry, transactionBytes } from "./entry.ts";
import { StorageError } from "./errors.ts";
import { FLAG, SEGMENT_BYTES_MIN, TEMPORARY_EXTENSION } from "./format.ts";
import type { FoundLog } from "./found_log.ts";
import { frameFlags } from "./frame.ts";
import { createFresh } from "./fresh_file.ts";
import type { LogState } from "./log_state.ts";
import { missingLog } from "./look.ts";
import { openSteps } from "./open.ts";
import { checkOptions, defaultOptions } from "./options.ts";
import { openFound, type StillLog } from "./still_log.ts";
import type { Steps } from "./steps.ts";
import type {
  StorageDirectory,
  StorageLock,
  StoragePort,
  Syncable,
} from "./storage.ts";
import { type Examination, examineLog } from "./verify.ts";
import { foundLog } from "./salvage.ts";
import type { Wal } from "./wal.ts";
