/**
 * Repairs of a log that opening would refuse, or whose index is wrong: what
 * can be done, and doing it under the writer's lock. Each is safe to be cut
 * off by a crash, and to be asked for again.
 *
 * @module
 */

import { retireLivePage } from "./publisher.ts";
import type { Kept } from "./damage.ts";
import { cutLog, type CutPlan, planCut } from "./cut_log.ts";
import { MANIFEST_NAME, segmentName } from "./format.ts";
import { missingLog } from "./look.ts";
import {
  installManifest,
  type Rebuildable,
  rebuildManifest,
} from "./rebuild_manifest.ts";
import { remakable, remakeSegment } from "./remake_index.ts";
import { readRemains } from "./remains.ts";
import { SavedFolder } from "./saved_folder.ts";
import type { Steps } from "./steps.ts";
import type {
  DirectoryOptions,
  StorageDirectory,
  StorageLock,
  StoragePort,
} from "./storage.ts";
import type { SurveyProgress } from "./survey.ts";
import { type Examination, examineLog, opensAsItIs } from "./verify.ts";

/** A repair in place. */
export type Remedy = "cut" | "index" | "manifest";

/** What can be done about a log. */
export interface RepairPlan extends Examination {
  /** Whether opening takes the log as it is. */
  readonly opens: boolean;
  /** Segments whose index, footer or spare header can be remade. */
  readonly index: readonly Kept[];
  /** The manifest; undefined when it is sound. */
  readonly manifest: Rebuildable | undefined;
  /** Ending the log before its first damage; undefined when there is none. */
  readonly cut: CutPlan | undefined;
}

/** What a repair did. */
export interface RepairReport {
  /** What it was about to do; nothing of `remedy` when there was nothing. */
  readonly plan: RepairPlan;
  /** Whether it did anything. */
  readonly done: boolean;
  /** Why it could not; undefined when it could. */
  readonly refusal: string | undefined;
  /** Where what was taken out is kept. */
  readonly savedPath: string | undefined;
  /** The files there. */
  readonly savedNames: readonly string[];
}

/** New files get the permission bits that opening gives them. */
export const REPAIR_MODES: DirectoryOptions = {
  create: false,
  directoryMode: 0o750,
  fileMode: 0o640,
};

/** Told how far a repair is with reading. */
export type TellProgress = (progress: SurveyProgress) => void;

/** Says what can be done; reads only. */
export function planRepair(
  directory: StorageDirectory,
  tell?: TellProgress,
): RepairPlan {
  const examination = examine(directory, tell);
  const { remains, survey } = examination;
  return {
    ...examination,
    opens: opensAsItIs(directory),
    index: remakable(survey),
    manifest: rebuildManifest(directory, remains, survey),
    cut: planCut(directory, remains, survey),
  };
}

/** Reads all of a log, and tells how far it is. */
export function examine(
  directory: StorageDirectory,
  tell: TellProgress | undefined,
): Examination {
  const steps = examineLog(directory);
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    tell?.(step.value);
  }
}

/** Repairs the log in `path`, under the writer's lock. */
export function* repairLog(
  storage: StoragePort,
  path: string,
  remedy: Remedy,
  tell?: TellProgress,
): Steps<RepairReport> {
  const directory = storage.openDirectory(path, REPAIR_MODES);
  if (directory === undefined) throw missingLog("repair", path);
  let lock: StorageLock | undefined;
  try {
    // Folders of others are refused before a lock file is made in them.
    if (readRemains(directory) === undefined) throw missingLog("repair", path);
    lock = directory.lock();
    const plan = planRepair(directory, tell);
    lock.verify();
    const saved = new SavedFolder(directory, storage.clock.nowMs());
    const found = { storage, directory, saved, plan };
    const outcome = yield* carryOut(found, remedy);
    const { path: savedPath, names: savedNames } = saved;
    return { plan, ...outcome, savedPath, savedNames };
  } finally {
    lock?.release();
    directory.close();
  }
}

interface Tools {
  readonly storage: StoragePort;
  readonly directory: StorageDirectory;
  readonly saved: SavedFolder;
  readonly plan: RepairPlan;
}

type Outcome = Pick<RepairReport, "done" | "refusal">;

const NOTHING: Outcome = { done: false, refusal: undefined };

function carryOut(tools: Tools, remedy: Remedy): Steps<Outcome> {
  if (remedy === "index") return repairIndex(tools);
  if (remedy === "manifest") return repairManifest(tools, tools.plan.manifest);
  return repairByCut(tools);
}

function* repairIndex({ directory, plan }: Tools): Steps<Outcome> {
  const { members } = plan.remains;
  for (const kept of plan.index) {
    const { member } = kept.reading;
    const next = members[members.indexOf(member) + 1];
    // A segment is sealed when its successor has been made.
    const sealedAtMs = next && (next.identity.createdAtMs ||
      member.identity.createdAtMs);
    yield* remakeSegment(directory, kept, sealedAtMs);
  }
  return { done: plan.index.length > 0, refusal: undefined };
}

function* repairManifest(
  { directory, saved }: Tools,
  rebuildable: Rebuildable | undefined,
): Steps<Outcome> {
  if (rebuildable === undefined) return NOTHING;
  if ("refusal" in rebuildable) {
    return { done: false, refusal: rebuildable.refusal };
  }
  const old = directory.open(MANIFEST_NAME, "read");
  if (old !== undefined) {
    const { bytes } = old;
    old.close();
    yield* saved.copy(MANIFEST_NAME, MANIFEST_NAME, 0, bytes);
    yield* saved.settle();
  }
  yield* syncNamed(directory, rebuildable.manifest);
  yield* installManifest(directory, rebuildable.manifest);
  return { done: true, refusal: undefined };
}

/** What a manifest names must be on the disk before it is. */
function* syncNamed(
  directory: StorageDirectory,
  { firstSegment, lastSegment }: { firstSegment: number; lastSegment: number },
): Steps<void> {
  for (const number of new Set([firstSegment, lastSegment])) {
    const file = directory.open(segmentName(number), "write");
    if (file === undefined) continue;
    try {
      yield [file];
    } finally {
      file.close();
    }
  }
  yield [directory];
}

function* repairByCut(tools: Tools): Steps<Outcome> {
  const { directory, plan } = tools;
  const { remains, survey, cut } = plan;
  if (cut === undefined) return yield* repairManifest(tools, plan.manifest);
  // A writer that died may have shown readers what is taken out now.
  retireLivePage(directory);
  const manifest = yield* cutLog(tools, remains, survey, cut);
  if (manifest !== undefined) {
    yield* installManifest(directory, manifest);
  } else {
    // Only strangers went: now nothing else keeps from telling the manifest.
    const again = planRepair(directory);
    yield* repairManifest(tools, again.manifest);
  }
  return { done: true, refusal: undefined };
}
