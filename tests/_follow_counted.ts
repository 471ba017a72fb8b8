/**
 * A storage that counts the bytes which a log reads, below any cache of the
 * log's own.
 *
 * @module
 */

import type {
  StorageDirectory,
  StorageFile,
  StoragePort,
} from "../src/storage.ts";

/** What was read so far. */
export interface Counted {
  readonly port: StoragePort;
  /** Bytes that files gave. */
  bytesRead: number;
  /** Files that were opened. */
  filesOpened: number;
}

/** Counts what goes through a storage that does not map. */
export function countReads(port: StoragePort): Counted {
  const counted: Counted = {
    port: passOn(port, {
      openDirectory(...given: Parameters<StoragePort["openDirectory"]>) {
        const folder = port.openDirectory(...given);
        return folder && countFolder(folder, counted);
      },
    }),
    bytesRead: 0,
    filesOpened: 0,
  };
  return counted;
}

function countFolder(
  folder: StorageDirectory,
  counted: Counted,
): StorageDirectory {
  return passOn(folder, {
    create: (...given: Parameters<StorageDirectory["create"]>) =>
      countFile(folder.create(...given), counted),
    open(...given: Parameters<StorageDirectory["open"]>) {
      const file = folder.open(...given);
      if (file !== undefined) counted.filesOpened++;
      return file && countFile(file, counted);
    },
  });
}

function countFile(file: StorageFile, counted: Counted): StorageFile {
  return passOn(file, {
    readAt(...given: Parameters<StorageFile["readAt"]>) {
      const bytes = file.readAt(...given);
      counted.bytesRead += bytes;
      return bytes;
    },
  });
}

/** An object with some methods of its own; all else is the other's. */
function passOn<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get(_, name) {
      if (name in own) return own[name as keyof T];
      const value = target[name as keyof T];
      // Private fields are only there on the object itself.
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}
