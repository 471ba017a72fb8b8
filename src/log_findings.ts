/**
 * Findings about a log as a whole: its manifest, files that do not belong to
 * it, and its torn tail.
 *
 * @module
 */

import { damage, type Finding, lossless } from "./finding.ts";
import { MANIFEST_NAME } from "./format.ts";
import type { Look } from "./look.ts";
import type { Member, Remains } from "./remains.ts";
import type { StorageDirectory } from "./storage.ts";

/** What is wrong with the manifest, and which files do not belong here. */
export function chainFindings(
  { path }: StorageDirectory,
  { manifestFault, strangers, members }: Remains,
): Finding[] {
  const found = (name: string, fault: string): Finding =>
    damage(
      { segment: `${path}/${name}`, offset: 0, message: fault },
      undefined,
    );
  return [
    ...(manifestFault === undefined
      ? []
      : [found(MANIFEST_NAME, manifestFault + whatWentBefore(members[0]!))]),
    ...strangers.map(({ name, fault }) => found(name, fault)),
  ];
}

/** Only the manifest tells what was removed from the front. */
function whatWentBefore({ link }: Member): string {
  if (link === undefined || link.previousNumber === 0) return "";
  return `; nothing tells whether the entries before ${link.baseIndex} were ` +
    `removed or are lost`;
}

/** The torn tail that the next opening cuts. */
export function tornFinding(
  directory: StorageDirectory,
  { chain, verdict }: Look,
): Finding {
  const { end, endSegment, nextIndex, tornBytes } = verdict;
  const { name } = chain.segments[endSegment]!;
  return lossless("torn", {
    segment: `${directory.path}/${name}`,
    offset: end.offset,
    message: `${tornBytes} bytes behind entry ${nextIndex - 1} are an ` +
      `unfinished write that nobody was promised, as a crash leaves ` +
      `it; the next opening cuts them and keeps them in "cut"`,
  });
}
