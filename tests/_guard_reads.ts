/**
 * A storage that keeps a list of what is read through it, below any cache of
 * the log's own. Of mapped memory it can tell only that a file was mapped.
 *
 * @module
 */

import type {
  MappedRegion,
  StorageDirectory,
  StorageFile,
  StoragePort,
} from "../src/storage.ts";

/** One read of a file. */
export interface Read {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
  /** The file became memory: whatever of it may be read from then on. */
  readonly mapped: boolean;
}

/** A storage that does what another one does, and the reads so far. */
export interface ListedReads {
  readonly port: StoragePort;
  readonly reads: Read[];
}

/** Lists what goes through a storage. */
export function listReads(port: StoragePort): ListedReads {
  const reads: Read[] = [];
  const openDirectory: StoragePort["openDirectory"] = (path, options) => {
    const folder = port.openDirectory(path, options);
    return folder && listFolder(folder, reads);
  };
  return { port: passOn(port, { openDirectory }), reads };
}

function listFolder(folder: StorageDirectory, reads: Read[]): StorageDirectory {
  return passOn(folder, {
    open(name, access): StorageFile | undefined {
      const file = folder.open(name, access);
      return file && listFile(file, reads);
    },
  });
}

function listFile(file: StorageFile, reads: Read[]): StorageFile {
  const { name } = file;
  return passOn(file, {
    readAt(target, offset): number {
      const bytes = file.readAt(target, offset);
      reads.push({ name, offset, bytes, mapped: false });
      return bytes;
    },
    map(): MappedRegion | undefined {
      const region = file.map();
      const { bytes } = file;
      if (region) reads.push({ name, offset: 0, bytes, mapped: true });
      return region;
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
