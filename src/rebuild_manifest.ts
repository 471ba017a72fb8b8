/**
 * Makes the manifest of a log again from its segments, and puts one in place.
 * It claims no more than durable marks prove, as an old manifest would: the
 * next opening finds the rest. docs/format.md §6.
 *
 * @module
 */

import type { Chain, ChainSegment } from "./chain.ts";
import { WalCorruptedError } from "./errors.ts";
import {
  CUT_FOLDER,
  MANIFEST_BYTES,
  MANIFEST_NAME,
  segmentNumberOf,
  TEMPORARY_EXTENSION,
} from "./format.ts";
import { createFresh, removeQuietly } from "./fresh_file.ts";
import { encodeManifest, type Manifest } from "./manifest.ts";
import { decide } from "./recovery.ts";
import type { Member, Remains } from "./remains.ts";
import type { Steps } from "./steps.ts";
import type { StorageDirectory } from "./storage.ts";
import type { Survey } from "./survey.ts";

/** A manifest that can be made again, or why it cannot. */
export type Rebuildable =
  | { readonly manifest: Manifest; readonly assumption: string | undefined }
  | { readonly refusal: string };

/** The manifest as the segments tell it; `undefined` when it is sound. */
export function rebuildManifest(
  directory: StorageDirectory,
  remains: Remains,
  survey: Survey,
): Rebuildable | undefined {
  if (remains.manifest !== undefined) return undefined;
  const segments = chainOf(remains.members);
  const damaged = survey.findings.filter(({ kind }) => kind === "damage");
  // One finding is the manifest's own.
  if (segments === undefined || damaged.length > 1) {
    const refusal = "other damage keeps from telling what the manifest said";
    return { refusal };
  }
  const first = segments[0]!;
  const mark = survey.durable;
  const last =
    segments.findLast(({ identity }) => identity.number <= mark.number) ??
      first;
  const { logId, formatName } = remains;
  const manifest: Manifest = {
    logId,
    formatName,
    firstIndex: first.link.baseIndex,
    firstSegment: first.identity.number,
    lastSegment: last.identity.number,
    nextSegment: nextSegmentNumber(directory),
    nextIndex: last.link.baseIndex,
    generation: last.link.generation,
    mark,
    closed: false,
  };
  const chain = { manifest, segments, leftovers: [], nextSegment: 0 };
  const refusal = refusalOf(directory, chain);
  if (refusal !== undefined) return { refusal };
  const { baseIndex, previousNumber } = first.link;
  const assumption = previousNumber === 0
    ? undefined
    : `entries before ${baseIndex} are taken as removed on purpose`;
  return { manifest, assumption };
}

function chainOf(members: readonly Member[]): ChainSegment[] | undefined {
  const segments: ChainSegment[] = [];
  for (const { name, identity, link, fault } of members) {
    if (fault !== undefined || link === undefined) return undefined;
    segments.push({ name, identity, link });
  }
  return segments;
}

/** Why opening would refuse the log with this manifest, if it would. */
function refusalOf(
  directory: StorageDirectory,
  chain: Chain,
): string | undefined {
  try {
    decide(directory, chain);
    return undefined;
  } catch (error) {
    if (!(error instanceof WalCorruptedError)) throw error;
    return error.message.replace(/^Cannot open log: /, "");
  }
}

/** Above every number that a segment of this log has, or had. */
export function nextSegmentNumber(directory: StorageDirectory): number {
  let highest = 0;
  const look = (names: readonly { readonly name: string }[]) => {
    for (const { name } of names) {
      // Names in the making, and of torn bytes, begin with a segment's name.
      const bare = name.replace(/(?<=\.wal)\..*$/, "");
      highest = Math.max(highest, segmentNumberOf(bare) ?? 0);
    }
  };
  const names = directory.list();
  look(names);
  if (names.some(({ name }) => name === CUT_FOLDER)) {
    for (const { name, kind } of directory.list(CUT_FOLDER)) {
      if (kind !== "directory") continue;
      look(directory.list(`${CUT_FOLDER}/${name}`));
    }
  }
  return highest + 1;
}

/** Puts a manifest in place: written beside the old one, synced, renamed. */
export function* installManifest(
  directory: StorageDirectory,
  manifest: Manifest,
): Steps<void> {
  const temporary = `${MANIFEST_NAME}.1${TEMPORARY_EXTENSION}`;
  const file = createFresh(directory, temporary, MANIFEST_BYTES);
  try {
    file.writeAt(encodeManifest(manifest), 0);
    yield [file];
    directory.rename(temporary, MANIFEST_NAME);
  } catch (error) {
    removeQuietly(directory, temporary);
    throw error;
  } finally {
    file.close();
  }
  yield [directory];
}
