/**
 * Every on-disk constant of format v1, in the order of docs/format.md.
 *
 * All integers are little-endian. A 64-bit integer is stored as two u32, the
 * low one first, so that JavaScript never needs a bigint to handle it.
 *
 * @module
 */

/** The version that this library writes, and the only one it reads. */
export const FORMAT_VERSION = 1;

/** What every segment file's name begins with. */
export const SEGMENT_FILE_PREFIX = "segment_" as const;
/** What every segment file's name ends with. */
export const SEGMENT_FILE_EXTENSION = ".wal" as const;
/** Digits of the running number in a segment's name. */
export const SEGMENT_NAME_DIGITS = 20;
/** The manifest's name. */
export const MANIFEST_NAME = "manifest";
/** Where recovery keeps what it took out of the log. */
export const CUT_FOLDER = "cut";
/** What the name of a file in the making ends with. */
export const TEMPORARY_EXTENSION = ".tmp";
/** The file of a segment to come, made ahead. */
export const SPARE_NAME = "spare.tmp";

/** "\x89WALRUS\n": not text, and broken by newline translation. */
export const SEGMENT_MAGIC: readonly number[] = [
  0x89,
  0x57,
  0x41,
  0x4c,
  0x52,
  0x55,
  0x53,
  0x0a,
];
/** "\x89WALMAN\n". */
export const MANIFEST_MAGIC: readonly number[] = [
  0x89,
  0x57,
  0x41,
  0x4c,
  0x4d,
  0x41,
  0x4e,
  0x0a,
];
/** "\x89WALEND\n". */
export const FOOTER_MAGIC: readonly number[] = [
  0x89,
  0x57,
  0x41,
  0x4c,
  0x45,
  0x4e,
  0x44,
  0x0a,
];

/** Segments are multiples of this, and recovery writes in steps of it. */
export const PAGE_BYTES = 4096;
/** A segment's first page holds its two header records, each twice. */
export const HEADER_BYTES = 4096;

/** The identity record stands at the page's start … */
export const IDENTITY_BYTES = 128;
/** … and again at its end. */
export const IDENTITY_COPY_OFFSET: number = HEADER_BYTES - IDENTITY_BYTES;
/** Offsets inside the identity record. */
export const IDENTITY = {
  magic: 0,
  version: 8,
  headerBytes: 12,
  logId: 16,
  number: 32,
  salt: 40,
  reserved: 44,
  segmentBytes: 48,
  formatName: 56,
  createdAtMs: 88,
  reservedTail: 96,
  crc: 124,
} as const;
/** Bytes of a format's name, zero-padded. */
export const FORMAT_NAME_BYTES = 32;
/** Bytes of the random log id. */
export const LOG_ID_BYTES = 16;

/** The link record follows the identity. */
export const LINK_OFFSET = 128;
/** Size of the link record. */
export const LINK_BYTES = 128;
/** The link record's copy stands right before the identity's. */
export const LINK_COPY_OFFSET: number = IDENTITY_COPY_OFFSET - LINK_BYTES;
/** Offsets inside the link record. */
export const LINK = {
  baseIndex: 0,
  previousNumber: 8,
  previousSalt: 16,
  previousEnd: 20,
  previousLastIndex: 24,
  generation: 32,
  markNumber: 40,
  markOffset: 48,
  cause: 52,
  reserved: 56,
  crc: 124,
} as const;
/** Why a segment was begun: what its link's `cause` may say. */
export const CAUSE = { filled: 0, truncated: 1, recovered: 2 } as const;

/** Frames begin at multiples of this. */
export const FRAME_ALIGNMENT = 8;
/** Bytes of a frame before its transaction id and payload. */
export const FRAME_HEADER_BYTES = 40;
/** Bytes of a transaction id, present only when the flag says so. */
export const TRANSACTION_ID_BYTES = 16;
/** Offsets inside a frame. */
export const FRAME = {
  crc: 0,
  length: 4,
  index: 8,
  flags: 16,
  markBack: 18,
  markOffset: 20,
  term: 24,
  timestamp: 32,
  payload: 40,
} as const;
/** Bits of a frame's flags; all others are reserved and zero. */
export const FLAG = {
  entry: 1,
  batchContinues: 2,
  batchEnds: 4,
  watermark: 8,
  transaction: 16,
} as const;
/** `markBack` of a frame that vouches for nothing. */
export const MARK_BACK_NONE = 0xffff;

/** Entries in one block of a segment's index. */
export const BLOCK_ENTRIES = 64;
/** Offsets inside an index block. */
export const BLOCK = {
  crc: 0,
  count: 4,
  maxTimestamp: 8,
  maxTerm: 16,
  offsets: 24,
} as const;
/** Size of an index block. */
export const BLOCK_BYTES: number = BLOCK.offsets + 4 * BLOCK_ENTRIES;

/** The footer ends a sealed segment's file. */
export const FOOTER_BYTES = 64;
/** Offsets inside the footer. */
export const FOOTER = {
  magic: 0,
  firstIndex: 8,
  lastIndex: 16,
  end: 24,
  blockCount: 28,
  maxTimestamp: 32,
  maxTerm: 40,
  sealedAtMs: 48,
  salt: 56,
  crc: 60,
} as const;

/** The manifest's size, and with it its checksum's place: in all versions. */
export const MANIFEST_BYTES = 256;
/** Offsets inside the manifest. */
export const MANIFEST = {
  magic: 0,
  version: 8,
  bytes: 12,
  logId: 16,
  formatName: 32,
  firstIndex: 64,
  firstSegment: 72,
  lastSegment: 80,
  nextSegment: 88,
  nextIndex: 96,
  generation: 104,
  markNumber: 112,
  markOffset: 120,
  closed: 124,
  reserved: 128,
  crc: 252,
} as const;

/** Where consumers keep their positions, one file each. */
export const CONSUMERS_FOLDER = "consumers";
/** "\x89WALCON\n". */
export const CONSUMER_MAGIC: readonly number[] = [
  0x89,
  0x57,
  0x41,
  0x4c,
  0x43,
  0x4f,
  0x4e,
  0x0a,
];
/** A consumer's file: two records, each at the start of a page. */
export const CONSUMER_FILE_BYTES = 8192;
/** Where a consumer's two records lie. */
export const CONSUMER_RECORD_OFFSETS = [0, 4096] as const;
/** The record's size, and with it its checksum's place: in all versions. */
export const CONSUMER_RECORD_BYTES = 64;
/** Offsets inside a consumer's record. */
export const CONSUMER = {
  magic: 0,
  version: 8,
  bytes: 12,
  logId: 16,
  sequence: 32,
  position: 40,
  generation: 48,
  reserved: 56,
  crc: 60,
} as const;

/** Where a writer tells readers what the log is now: one page, never synced. */
export const LIVE_NAME = "live";
/** Where readers in other processes say that they wait. */
export const WAKE_NAME = "wake";
/** "\x89WALLIV\n". */
export const LIVE_MAGIC: readonly number[] = [
  0x89,
  0x57,
  0x41,
  0x4c,
  0x4c,
  0x49,
  0x56,
  0x0a,
];
/** The size of both files. */
export const LIVE_BYTES = 4096;
/** Bytes of the random names of a boot and of a session. */
export const SESSION_BYTES = 16;
/** Offsets inside the live page. */
export const LIVE = {
  magic: 0,
  version: 8,
  bytes: 12,
  logId: 16,
  boot: 32,
  session: 48,
  sequence: 64,
  state: 68,
  firstIndex: 72,
  generation: 80,
  number: 88,
  salt: 96,
  crc: 100,
  end: 128,
  endCheck: 132,
  durable: 136,
  durableCheck: 144,
  touched: 192,
} as const;
/** What the live page's `state` may say. */
export const LIVE_STATE = { closed: 0, open: 1 } as const;

/** The smallest segment. */
export const SEGMENT_BYTES_MIN: number = 64 * 1024;
/** The largest segment: views stay fast and offsets stay below 2^31. */
export const SEGMENT_BYTES_MAX: number = 1024 * 1024 * 1024;

/** Rounds up to the next frame boundary. */
export function alignFrame(bytes: number): number {
  return (bytes + FRAME_ALIGNMENT - 1) & -FRAME_ALIGNMENT;
}

/** Rounds up to whole pages. */
export function alignPage(bytes: number): number {
  return Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;
}

/** The file name of segment `number`. */
export function segmentName(number: number): string {
  const digits = String(number).padStart(SEGMENT_NAME_DIGITS, "0");
  return SEGMENT_FILE_PREFIX + digits + SEGMENT_FILE_EXTENSION;
}

/** The highest number and generation that is read: 2^20 are left above. */
export const NUMBER_MAX: number = 2 ** 53 - 2 ** 20;

/** The running number in a segment's file name, if it is one. */
export function segmentNumberOf(name: string): number | undefined {
  const match = /^segment_(\d{20})\.wal$/.exec(name);
  if (match === null) return undefined;
  const number = Number(match[1]);
  return number >= 1 && number <= NUMBER_MAX ? number : undefined;
}

/** The number in the name of a manifest in the making, if it is one. */
export function manifestTurnOf(name: string): number | undefined {
  const match = /^manifest\.(\d+)\.tmp$/.exec(name);
  if (match === null) return undefined;
  const turn = Number(match[1]);
  return turn <= NUMBER_MAX ? turn : undefined;
}

/** Whether the library makes files of this name on the way to others. */
export function isTemporaryName(name: string): boolean {
  return name === SPARE_NAME ||
    /^(segment_\d{20}\.wal|manifest\.\d+)\.tmp$/.test(name);
}

/** Bytes that the index and the footer of `entryCount` entries take. */
export function indexBytes(entryCount: number): number {
  return Math.ceil(entryCount / BLOCK_ENTRIES) * BLOCK_BYTES + FOOTER_BYTES;
}

/** Where index block `ordinal` begins in a file of `fileBytes`. */
export function blockOffset(fileBytes: number, ordinal: number): number {
  return fileBytes - FOOTER_BYTES - (ordinal + 1) * BLOCK_BYTES;
}
