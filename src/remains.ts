/**
 * What is left of a damaged log: reads manifest and header pages as `chain`
 * does, but goes on where that refuses. Segments that are missing or have
 * lost their header keep their place in the chain, as far as their neighbours
 * tell it. Read-only; nothing is decided here.
 *
 * @module
 */

import { type Chain, clampToChain, readChain } from "./chain.ts";
import { WalCorruptedError } from "./errors.ts";
import { corruptedFile, readManifest } from "./folder.ts";
import { CAUSE, HEADER_BYTES, MANIFEST_NAME, segmentName } from "./format.ts";
import { decodeLink, type Identity, type Link } from "./header.ts";
import type { Manifest } from "./manifest.ts";
import type { Position } from "./mark.ts";
import {
  commonOf,
  type FoundHeader,
  type LogNames,
  readHeaders,
  sortHeaders,
  type Stranger,
} from "./segment_headers.ts";
import type { StorageDirectory } from "./storage.ts";

/** A segment of the log, as far as it is known. */
export interface Member {
  /** Its file's name. */
  readonly name: string;
  /** Its running number. */
  readonly number: number;
  /** Who it is; told by its neighbours where its own record is lost. */
  readonly identity: Identity;
  /** Where it stands; undefined when that is lost. */
  readonly link: Link | undefined;
  /** Whether its frames can be read: there is a file, and its salt is known. */
  readonly readable: boolean;
  /** What is wrong with its file or header; undefined when nothing is. */
  readonly fault: string | undefined;
}

/** What is left of a log. */
export interface Remains {
  /** The manifest, if it can be read. */
  readonly manifest: Manifest | undefined;
  /** What is wrong with it; undefined when nothing is. */
  readonly manifestFault: string | undefined;
  /** The log's random id. */
  readonly logId: string;
  /** The log's format name. */
  readonly formatName: string;
  /** The log's segments in order, at least one. */
  readonly members: readonly Member[];
  /** Durable marks in files that are not part of the log. */
  readonly marks: readonly Position[];
  /** The chain, where it is sound. */
  readonly chain: Chain | undefined;
  /** Files that claim to be segments of this log and are not. */
  readonly strangers: readonly Stranger[];
}

/**
 * Reads what is left; `undefined` when there is no log, not even a damaged
 * one. Throws when nothing tells what the segments are.
 */
export function readRemains(directory: StorageDirectory): Remains | undefined {
  try {
    const chain = readChain(directory);
    if (chain === undefined) return undefined;
    const vouched = chain.leftovers.find(({ mark }) =>
      clampToChain(mark, chain.segments) === undefined
    );
    if (vouched === undefined) return soundRemains(chain);
    const { path } = directory;
    return new Search(directory).remains(corruptedFile(
      `${path}/${vouched.name}`,
      "names entries that were made durable and is not part of the chain, " +
        "expected all segments between",
    ));
  } catch (error) {
    if (!(error instanceof WalCorruptedError)) throw error;
    return new Search(directory).remains(error);
  }
}

function soundRemains(chain: Chain): Remains {
  const { manifest, segments, leftovers } = chain;
  const { logId, formatName } = manifest;
  const members = segments.map(({ name, identity, link }) => {
    const { number } = identity;
    return { name, number, identity, link, readable: true, fault: undefined };
  });
  return {
    manifest,
    manifestFault: undefined,
    logId,
    formatName,
    members,
    marks: leftovers.map(({ mark }) => mark),
    chain,
    strangers: [],
  };
}

class Search {
  readonly #directory: StorageDirectory;
  readonly #strangers: Stranger[] = [];
  #manifest: Manifest | undefined;
  #manifestFault: string | undefined;
  #files = new Map<number, FoundHeader>();
  #common: LogNames = { logId: "", formatName: "" };

  constructor(directory: StorageDirectory) {
    this.#directory = directory;
  }

  remains(refusal: WalCorruptedError): Remains {
    this.#readManifest();
    const all = readHeaders(this.#directory);
    const common = this.#manifest ?? commonOf(all);
    if (common === undefined) throw refusal;
    this.#common = common;
    const sorted = sortHeaders(all, common);
    this.#files = sorted.files;
    this.#strangers.push(...sorted.strangers);
    const members = this.#walk();
    if (members.length === 0) throw refusal;
    this.#noteBeyond(members.at(-1)!.number);
    const { logId, formatName } = common;
    return {
      manifest: this.#manifest,
      manifestFault: this.#manifestFault,
      logId,
      formatName,
      members,
      marks: [],
      chain: undefined,
      strangers: this.#strangers,
    };
  }

  #readManifest(): void {
    try {
      this.#manifest = readManifest(this.#directory);
      if (this.#manifest !== undefined) return;
      this.#manifestFault = "is missing though there are segments, expected " +
        "a manifest";
    } catch (error) {
      if (!(error instanceof WalCorruptedError)) throw error;
      const { path } = this.#directory;
      const prefix = `Cannot open log: "${path}/${MANIFEST_NAME}" `;
      this.#manifestFault = error.message.replace(prefix, "");
    }
  }

  /** Without a manifest nobody knows whether such a file held entries. */
  #noteBeyond(last: number): void {
    if (this.#manifest !== undefined) return;
    for (const { name, number } of this.#files.values()) {
      const fault = "has a damaged header, and nothing tells whether it held " +
        "entries, expected a valid identity and link";
      if (number > last) this.#strangers.push({ name, fault });
    }
  }

  /** The chain from its last segment back, past what is lost. */
  #walk(): Member[] {
    const first = this.#manifest?.firstSegment ?? 1;
    const members: Member[] = [];
    let number: number | undefined = this.#lastNumber();
    while (number !== undefined && number > 0) {
      const member = this.#memberAt(number, members.at(-1));
      members.push(member);
      if (number <= first) break;
      number = this.#numberBefore(member, first);
    }
    return members.reverse();
  }

  #numberBefore(member: Member, first: number): number | undefined {
    const { link, number } = member;
    if (link !== undefined) {
      const { previousNumber } = link;
      if (previousNumber < first) return undefined;
      // Without a manifest nobody knows what was removed from the front.
      const known = this.#manifest !== undefined ||
        [...this.#files.keys()].some((one) => one < number);
      return known ? previousNumber : undefined;
    }
    // Its link is lost: the file before it, if that can be one of the log.
    let lower: number | undefined;
    for (const found of this.#files.values()) {
      if (found.number >= number || found.number < first) continue;
      if (lower !== undefined && found.number < lower) continue;
      if (found.salt !== undefined) lower = found.number;
    }
    const manifestTells = this.#manifest !== undefined;
    return lower ?? (manifestTells && first < number ? first : undefined);
  }

  /** The highest number that belongs to the log. */
  #lastNumber(): number | undefined {
    const manifest = this.#manifest;
    const least = manifest?.lastSegment ?? 0;
    let last = manifest?.lastSegment;
    for (const file of this.#files.values()) {
      if (file.number < least || file.number <= (last ?? 0)) continue;
      if (file.salt === undefined) continue;
      const link = this.#linkOf(file, file.salt);
      const stale = manifest !== undefined && link !== undefined &&
        link.generation < manifest.generation;
      if (!stale) last = file.number;
    }
    return last;
  }

  #linkOf(found: FoundHeader, salt: number): Link | undefined {
    const { page, link } = found;
    return page === undefined
      ? link
      : decodeLink(page, this.#made(found, salt));
  }

  #made(
    { number, bytes }: { number: number; bytes: number },
    salt: number,
  ): Identity {
    const { logId, formatName } = this.#common;
    const identity = { logId, formatName, number, salt, createdAtMs: 0 };
    return { ...identity, segmentBytes: bytes };
  }

  #memberAt(number: number, next: Member | undefined): Member {
    const found = this.#files.get(number);
    const wanted = next?.link?.previousNumber === number
      ? next.link
      : undefined;
    const name = found?.name ?? segmentName(number);
    const lost = (fault: string): Member => {
      const bytes = wanted?.previousEnd ?? HEADER_BYTES;
      const identity = this.#made({ number, bytes }, wanted?.previousSalt ?? 0);
      return {
        name,
        number,
        identity,
        link: undefined,
        readable: false,
        fault,
      };
    };
    if (found === undefined) {
      const where = next === undefined
        ? "as the log's last segment"
        : "between its neighbours";
      return lost(`is missing, expected it ${where}`);
    }
    const salt = found.identity?.salt ?? wanted?.previousSalt ?? found.salt;
    if (salt === undefined) {
      return lost("has a damaged header, expected a valid identity and link");
    }
    if (wanted !== undefined && salt !== wanted.previousSalt) {
      return lost(
        "is not the file that its successor names: the salt differs",
      );
    }
    return this.#judgeHeader(found, salt, next);
  }

  #judgeHeader(
    found: FoundHeader,
    salt: number,
    next: Member | undefined,
  ): Member {
    const { name, number, bytes } = found;
    const identity = found.identity ?? this.#made(found, salt);
    const read = this.#linkOf(found, salt);
    const follows = read === undefined || next?.link === undefined ||
      fits(read, identity, next.link);
    const link = follows ? read : undefined;
    let fault: string | undefined;
    if (!follows) {
      fault = "contradicts its successor, expected matching links";
    } else if (found.identity === undefined || link === undefined) {
      fault = "has a damaged header, expected a valid identity and link";
    } else if (name !== segmentName(number)) {
      fault = `is segment ${number} by its header, expected its name to say so`;
    } else if (bytes !== identity.segmentBytes) {
      fault = `has ${bytes} bytes, expected ${identity.segmentBytes} bytes`;
    }
    return { name, number, identity, link, readable: true, fault };
  }
}

/** Whether a link can be that of `next`'s predecessor. */
function fits(link: Link, identity: Identity, next: Link): boolean {
  if (next.previousNumber !== identity.number) return true;
  return next.previousLastIndex >= link.baseIndex - 1 &&
    link.generation <= next.generation;
}

/**
 * The generation of a member whose link is lost, as its successor tells it:
 * the highest that it can have.
 */
export function generationBefore(next: Link): number {
  return next.cause === CAUSE.filled ? next.generation : next.generation - 1;
}
