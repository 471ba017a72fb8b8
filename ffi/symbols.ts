/**
 * The C functions that Walrus calls, once for all three runtimes.
 *
 * Beside every parameter and result stands its C declaration. Addresses and
 * sizes are "u64" and bigints, so that no pointer object exists anywhere, and
 * MAP_FAILED is simply -1n. None of them is variadic: no runtime's FFI can
 * call those on every machine.
 *
 * @module
 */

/** The table: parameters and result of each function. */
export const LIBC_SYMBOLS = {
  mmap: {
    parameters: [
      "u64", // void *addr
      "u64", // size_t length
      "i32", // int prot
      "i32", // int flags
      "i32", // int fd
      "i64", // off_t offset
    ],
    result: "i64", // void *, MAP_FAILED is -1
  },
  munmap: {
    parameters: [
      "u64", // void *addr
      "u64", // size_t length
    ],
    result: "i32", // int
  },
  madvise: {
    parameters: [
      "u64", // void *addr
      "u64", // size_t length
      "i32", // int advice
    ],
    result: "i32", // int
  },
  fallocate: {
    parameters: [
      "i32", // int fd
      "i32", // int mode
      "i64", // off_t offset
      "i64", // off_t len
    ],
    result: "i32", // int
  },
  posix_fadvise: {
    parameters: [
      "i32", // int fd
      "i64", // off_t offset
      "i64", // off_t len
      "i32", // int advice
    ],
    result: "i32", // int, the error itself; errno is not set
  },
  flock: {
    parameters: [
      "i32", // int fd
      "i32", // int operation
    ],
    result: "i32", // int
  },
  __errno_location: {
    parameters: [],
    result: "i64", // int *, one for each thread
  },
} as const;

/** The functions of the table that other threads call, too. */
export const BACKGROUND_SYMBOLS: Record<BackgroundName, NativeFunction> = {
  madvise: LIBC_SYMBOLS.madvise,
  fallocate: LIBC_SYMBOLS.fallocate,
};

/** Their names. */
export type BackgroundName = "madvise" | "fallocate";

/** The name under which the C library is found, by glibc and by musl. */
export const LIBC_NAME = "libc.so.6";

/** A C type of the table. */
export type NativeType = "i32" | "i64" | "u64";

/** A function of the table. */
export interface NativeFunction {
  /** Its parameters' types. */
  readonly parameters: readonly NativeType[];
  /** Its result's type. */
  readonly result: NativeType;
}

type ValueOf<T> = T extends "i32" ? number : bigint;

type ValuesOf<T extends readonly NativeType[]> = {
  -readonly [K in keyof T]: ValueOf<T[K]>;
};

/** The functions of the table as JavaScript sees them. */
export type LibcSymbols = {
  readonly [N in keyof typeof LIBC_SYMBOLS]: (
    ...values: ValuesOf<(typeof LIBC_SYMBOLS)[N]["parameters"]>
  ) => ValueOf<(typeof LIBC_SYMBOLS)[N]["result"]>;
};

/** The numbers of <sys/mman.h>, <fcntl.h> and <sys/file.h>, x86-64 and arm64. */
export const PROT_READ_WRITE = 0x3;
/** Stores reach the file. */
export const MAP_SHARED = 0x01;
/** Stores stay in this process. */
export const MAP_PRIVATE = 0x02;
/** Replaces what is mapped at the address. */
export const MAP_FIXED = 0x10;
/** Memory without a file. */
export const MAP_ANONYMOUS = 0x20;
/** No swap space is set aside. */
export const MAP_NORESERVE = 0x4000;
/** What mmap returns when it fails. */
export const MAP_FAILED = -1n;
/** No read-ahead, so no large folios: a small sync stays small. */
export const MADV_RANDOM = 1;
/** Takes pages out of the mapping; the file keeps them. */
export const MADV_DONTNEED = 4;
/** Has pages ready for loads. */
export const MADV_POPULATE_READ = 22;
/** Has pages ready for stores; each of them counts as written then. */
export const MADV_POPULATE_WRITE = 23;
/** Drop clean pages. */
export const POSIX_FADV_DONTNEED = 4;
/** Punching leaves the size alone. */
export const FALLOC_FL_KEEP_SIZE = 0x01;
/** Give the space of a range back. */
export const FALLOC_FL_PUNCH_HOLE = 0x02;
/** Any number of holders. */
export const LOCK_SH = 1;
/** One holder. */
export const LOCK_EX = 2;
/** Lets go. */
export const LOCK_UN = 8;
/** Do not wait. */
export const LOCK_NB = 4;
