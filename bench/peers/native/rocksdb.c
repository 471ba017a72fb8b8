/*
 * RocksDB through its C interface, as a log: 8-byte numbers as keys.
 *
 * Options as its wiki has them: "Setup Options and Basic Tuning"
 * (IncreaseParallelism, level compaction for a memtable budget) and "WAL
 * Performance" (recycle_log_file_num, so that a sync need not write the
 * file's size; group commit among threads whose write options agree).
 */
#include <rocksdb/c.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workloads.h"

extern const char rocksdb_version_text[];

struct log {
  rocksdb_t *database;
  rocksdb_options_t *options;
  rocksdb_writeoptions_t *write;
  rocksdb_readoptions_t *read;
  _Atomic uint64_t next;
};

static void check(char *error, const char *what) {
  if (error != NULL) fail(what, "RocksDB refused");
}

static void *open_log(const struct job *job, int durable) {
  struct log *log = calloc(1, sizeof *log);
  char *error = NULL;
  log->options = rocksdb_options_create();
  rocksdb_options_set_create_if_missing(log->options, 1);
  rocksdb_options_increase_parallelism(log->options, 2);
  rocksdb_options_optimize_level_style_compaction(log->options, 512 << 20);
  rocksdb_options_set_recycle_log_file_num(log->options, 4);
  log->write = rocksdb_writeoptions_create();
  rocksdb_writeoptions_set_sync(log->write, (unsigned char)durable);
  log->read = rocksdb_readoptions_create();
  log->database = rocksdb_open(log->options, job->folder, &error);
  check(error, "open");
  rocksdb_iterator_t *last =
      rocksdb_create_iterator(log->database, log->read);
  rocksdb_iter_seek_to_last(last);
  if (rocksdb_iter_valid(last)) {
    size_t bytes;
    log->next =
        load_key((const uint8_t *)rocksdb_iter_key(last, &bytes)) + 1;
  }
  rocksdb_iter_destroy(last);
  return log;
}

static void append(void *opened, const uint8_t *data, size_t bytes) {
  struct log *log = opened;
  char *error = NULL;
  uint8_t key[8];
  store_key(key, log->next++);
  rocksdb_put(log->database, log->write, (char *)key, 8, (const char *)data,
              bytes, &error);
  check(error, "put");
}

static void batch(void *opened, const uint8_t *const *data, size_t count,
                  size_t bytes) {
  struct log *log = opened;
  char *error = NULL;
  rocksdb_writebatch_t *writes = rocksdb_writebatch_create();
  for (size_t i = 0; i < count; i++) {
    uint8_t key[8];
    store_key(key, log->next++);
    rocksdb_writebatch_put(writes, (char *)key, 8, (const char *)data[i],
                           bytes);
  }
  rocksdb_write(log->database, log->write, writes, &error);
  check(error, "write");
  rocksdb_writebatch_destroy(writes);
}

static size_t get(void *opened, uint64_t index, uint8_t *target) {
  struct log *log = opened;
  char *error = NULL;
  uint8_t key[8];
  store_key(key, index);
  rocksdb_pinnableslice_t *found =
      rocksdb_get_pinned(log->database, log->read, (char *)key, 8, &error);
  check(error, "get");
  if (found == NULL) fail("get", "no such entry");
  size_t bytes;
  const char *data = rocksdb_pinnableslice_value(found, &bytes);
  memcpy(target, data, bytes);
  rocksdb_pinnableslice_destroy(found);
  return bytes;
}

static uint64_t scan(void *opened) {
  struct log *log = opened;
  uint64_t count = 0;
  rocksdb_iterator_t *at = rocksdb_create_iterator(log->database, log->read);
  for (rocksdb_iter_seek_to_first(at); rocksdb_iter_valid(at);
       rocksdb_iter_next(at)) {
    size_t bytes;
    sink += (uint8_t)rocksdb_iter_value(at, &bytes)[0];
    count++;
  }
  rocksdb_iter_destroy(at);
  return count;
}

static uint64_t count(void *opened) { return ((struct log *)opened)->next; }

static void close_log(void *opened) {
  struct log *log = opened;
  rocksdb_close(log->database);
}

int main(int argc, char **argv) {
  struct contender rocksdb = {.open = open_log,
                              .append = append,
                              .batch = batch,
                              .get = get,
                              .scan = scan,
                              .count = count,
                              .close = close_log,
                              .threads = 1};
  snprintf(rocksdb.version, sizeof rocksdb.version, "%s",
           rocksdb_version_text);
  return run(&rocksdb, argc, argv);
}
