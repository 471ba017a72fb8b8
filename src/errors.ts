/**
 * Every error of the log, one class per remedy.
 *
 * Messages say what was tried, what was found and what was expected. The code
 * is a literal, so a `switch` over `AnyWalError` is exhaustive.
 *
 * @module
 */

/** What all errors of the log have in common. */
export class WalError extends Error {
  /** The error's kind, a literal in every subclass. */
  declare readonly code: WalErrorCode;

  /** Makes an error; users meet the subclasses only. */
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The literal in `code`. */
export type WalErrorCode = AnyWalError["code"];

/** The union to narrow by `code`. */
export type AnyWalError =
  | ChecksumMismatchError
  | EmptyDataError
  | InvalidEntryError
  | WalCorruptedError
  | WalClosedError
  | IndexOutOfRangeError
  | SegmentNotFoundError
  | SegmentFullError
  | UnsupportedFormatError
  | TransactionNotFoundError
  | TransactionNotPendingError
  | TransactionExpiredError
  | TransactionTooLargeError
  | WalLockedError
  | WalFailedError
  | IndexConflictError
  | StorageError;

/** The bytes of one entry changed on the disk. Restore them. */
export class ChecksumMismatchError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "CHECKSUM_MISMATCH";
  /** The entry that cannot be served. */
  readonly index: number;
  /** The segment file's path. */
  readonly segment: string;
  /** Where its frame begins, in bytes from the file's start. */
  readonly offset: number;

  /** Made by the log. */
  constructor(
    message: string,
    detail: { index: number; segment: string; offset: number },
  ) {
    super(message);
    this.index = detail.index;
    this.segment = detail.segment;
    this.offset = detail.offset;
  }
}

/** The entry has no data at all (`undefined` or `null`). Fix the program. */
export class EmptyDataError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "EMPTY_DATA";
}

/** The entry can never be stored: too large, or refused by its encoder. */
export class InvalidEntryError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "INVALID_ENTRY";
}

/** Bytes that a durable mark vouches for are wrong. Restore or repair. */
export class WalCorruptedError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "CORRUPTED";
  /** The damaged file's path. */
  readonly segment: string;
  /** Where the damage begins, in bytes from the file's start. */
  readonly offset: number;
  /** The first entry that cannot be read; 0 when not known. */
  readonly firstLostIndex: number;
  /** The last entry that cannot be read; 0 when not known. */
  readonly lastLostIndex: number;

  /** Made by the log. */
  constructor(
    message: string,
    detail: {
      segment: string;
      offset: number;
      firstLostIndex: number;
      lastLostIndex: number;
    },
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.segment = detail.segment;
    this.offset = detail.offset;
    this.firstLostIndex = detail.firstLostIndex;
    this.lastLostIndex = detail.lastLostIndex;
  }
}

/** The log was closed before this call. Open it again. */
export class WalClosedError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "CLOSED";
}

/** No entry has this index. */
export class IndexOutOfRangeError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "INDEX_OUT_OF_RANGE";
  /** The index asked for. */
  readonly index: number;
  /** The log's first index then; 0 when it was empty. */
  readonly firstIndex: number;
  /** The log's last index then; 0 when it was empty. */
  readonly lastIndex: number;
  /** Never there, removed from the front, or truncated from the end. */
  readonly reason: "absent" | "removed" | "truncated";

  /** Made by the log. */
  constructor(
    message: string,
    detail: {
      index: number;
      firstIndex: number;
      lastIndex: number;
      reason: "absent" | "removed" | "truncated";
    },
  ) {
    super(message);
    this.index = detail.index;
    this.firstIndex = detail.firstIndex;
    this.lastIndex = detail.lastIndex;
    this.reason = detail.reason;
  }
}

/** A segment file is not there any more. Restore it. */
export class SegmentNotFoundError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "SEGMENT_NOT_FOUND";
  /** The path that was looked for. */
  readonly path: string;

  /** Made by the log. */
  constructor(message: string, detail: { path: string }) {
    super(message);
    this.path = detail.path;
  }
}

/** A batch is larger than the largest segment. Split it. */
export class SegmentFullError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "SEGMENT_FULL";
  /** What the batch needs. */
  readonly bytes: number;
  /** What a segment can hold. */
  readonly bytesMax: number;

  /** Made by the log. */
  constructor(message: string, detail: { bytes: number; bytesMax: number }) {
    super(message);
    this.bytes = detail.bytes;
    this.bytesMax = detail.bytesMax;
  }
}

/** Another format, a newer version, or not a log of this library. */
export class UnsupportedFormatError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "UNSUPPORTED_FORMAT";
  /** What is there. */
  readonly found: string;
  /** What can be opened. */
  readonly supported: readonly string[];

  /** Made by the log. */
  constructor(
    message: string,
    detail: { found: string; supported: readonly string[] },
  ) {
    super(message);
    this.found = detail.found;
    this.supported = detail.supported;
  }
}

/** Whether a transaction can be committed, or how it has ended. */
export type TransactionState = "pending" | "committed" | "aborted";

/** No transaction has this id, or it ended too long ago. */
export class TransactionNotFoundError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "TRANSACTION_NOT_FOUND";
  /** The id asked for. */
  readonly transactionId: string;

  /** Made by the log. */
  constructor(message: string, detail: { transactionId: string }) {
    super(message);
    this.transactionId = detail.transactionId;
  }
}

/** The transaction was committed or rolled back before. Begin a new one. */
export class TransactionNotPendingError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "TRANSACTION_NOT_PENDING";
  /** The transaction's id. */
  readonly transactionId: string;
  /** How it has ended. */
  readonly state: TransactionState;

  /** Made by the log. */
  constructor(
    message: string,
    detail: { transactionId: string; state: TransactionState },
  ) {
    super(message);
    this.transactionId = detail.transactionId;
    this.state = detail.state;
  }
}

/** The transaction's time is over; nothing of it was written. Begin anew. */
export class TransactionExpiredError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "TRANSACTION_EXPIRED";
  /** The transaction's id. */
  readonly transactionId: string;
  /** When its time was over. */
  readonly expiredAt: Date;

  /** Made by the log. */
  constructor(
    message: string,
    detail: { transactionId: string; expiredAt: Date },
  ) {
    super(message);
    this.transactionId = detail.transactionId;
    this.expiredAt = detail.expiredAt;
  }
}

/** The transaction has as many entries as it may. Commit it, or split it. */
export class TransactionTooLargeError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "TRANSACTION_TOO_LARGE";
  /** The transaction's id. */
  readonly transactionId: string;
  /** The most entries that one may have. */
  readonly entriesMax: number;

  /** Made by the log. */
  constructor(
    message: string,
    detail: { transactionId: string; entriesMax: number },
  ) {
    super(message);
    this.transactionId = detail.transactionId;
    this.entriesMax = detail.entriesMax;
  }
}

/** Another writer has the log open. Wait for it, or end it. */
export class WalLockedError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "LOCKED";
  /** The writer's process, where it could be told. */
  readonly pid: number | undefined;

  /** Made by the log. */
  constructor(message: string, detail: { pid: number | undefined }) {
    super(message);
    this.pid = detail.pid;
  }
}

/**
 * A sync failed: what is on the disk is not known. Writes are refused and
 * reads go on; close the log and open it again, recovery decides.
 */
export class WalFailedError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "FAILED";
}

/** `expectedIndex` is not what the next entry gets. Nothing was written. */
export class IndexConflictError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "INDEX_CONFLICT";
  /** What the caller expected. */
  readonly expectedIndex: number;
  /** What the entry would have got. */
  readonly nextIndex: number;

  /** Made by the log. */
  constructor(
    message: string,
    detail: { expectedIndex: number; nextIndex: number },
  ) {
    super(message);
    this.expectedIndex = detail.expectedIndex;
    this.nextIndex = detail.nextIndex;
  }
}

/** The system refused. Look at the disk, the space and the permissions. */
export class StorageError extends WalError {
  /** Tells this class from the others. */
  override readonly code = "STORAGE";
  /** What was asked of the system: "open", "write", "sync", … */
  readonly operation: string;
  /** The file or folder. */
  readonly path: string;
  /** The system's name of the error, such as "ENOSPC". */
  readonly systemCode: string | undefined;

  /** Made by a storage. */
  constructor(
    message: string,
    detail: {
      operation: string;
      path: string;
      systemCode: string | undefined;
    },
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.operation = detail.operation;
    this.path = detail.path;
    this.systemCode = detail.systemCode;
  }
}
