/*
 * LMDB through its C interface, as a log: numbers as keys.
 *
 * As lmdb.h advises: MDB_INTEGERKEY for numbers, MDB_APPEND "for bulk
 * loading when keys are known to be in order", a map size that is a multiple
 * of the page and large enough for good. Durable is its default; not synced
 * is MDB_NOSYNC without MDB_WRITEMAP, which keeps the database whole only on
 * file systems that keep the order of writes. One transaction an append.
 */
#include <lmdb.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workloads.h"

#define MAP_BYTES ((size_t)32 << 30)

struct log {
  MDB_env *environment;
  MDB_dbi table;
  MDB_txn *read;
  _Atomic size_t next;
};

static void check(int code, const char *what) {
  if (code != 0) fail(what, mdb_strerror(code));
}

/* What is read is what was there when reading began. */
static MDB_txn *reading(struct log *log) {
  if (log->read == NULL)
    check(mdb_txn_begin(log->environment, NULL, MDB_RDONLY, &log->read),
          "begin");
  return log->read;
}

static void stop_reading(struct log *log) {
  if (log->read != NULL) mdb_txn_abort(log->read);
  log->read = NULL;
}

static void *open_log(const struct job *job, int durable) {
  struct log *log = calloc(1, sizeof *log);
  check(mdb_env_create(&log->environment), "create");
  check(mdb_env_set_mapsize(log->environment, MAP_BYTES), "map size");
  unsigned flags = durable ? 0 : MDB_NOSYNC;
  check(mdb_env_open(log->environment, job->folder, flags, 0640), "open");
  MDB_txn *write;
  check(mdb_txn_begin(log->environment, NULL, 0, &write), "begin");
  check(mdb_dbi_open(write, NULL, MDB_INTEGERKEY, &log->table), "table");
  check(mdb_txn_commit(write), "commit");
  MDB_stat stat;
  check(mdb_stat(reading(log), log->table, &stat), "stat");
  log->next = stat.ms_entries;
  stop_reading(log);
  return log;
}

static void batch(void *opened, const uint8_t *const *data, size_t count,
                  size_t bytes) {
  struct log *log = opened;
  MDB_txn *write;
  check(mdb_txn_begin(log->environment, NULL, 0, &write), "begin");
  for (size_t i = 0; i < count; i++) {
    size_t number = log->next++;
    MDB_val key = {sizeof number, &number}, value = {bytes, (void *)data[i]};
    check(mdb_put(write, log->table, &key, &value, MDB_APPEND), "put");
  }
  check(mdb_txn_commit(write), "commit");
}

static void append(void *opened, const uint8_t *data, size_t bytes) {
  batch(opened, &data, 1, bytes);
}

static size_t get(void *opened, uint64_t index, uint8_t *target) {
  struct log *log = opened;
  size_t number = index;
  MDB_val key = {sizeof number, &number}, value;
  check(mdb_get(reading(log), log->table, &key, &value), "get");
  memcpy(target, value.mv_data, value.mv_size);
  return value.mv_size;
}

static uint64_t scan(void *opened) {
  struct log *log = opened;
  stop_reading(log);
  MDB_cursor *cursor;
  check(mdb_cursor_open(reading(log), log->table, &cursor), "cursor");
  MDB_val key, value;
  uint64_t count = 0;
  while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
    sink += *(uint8_t *)value.mv_data;
    count++;
  }
  mdb_cursor_close(cursor);
  return count;
}

static uint64_t count(void *opened) { return ((struct log *)opened)->next; }

static void close_log(void *opened) {
  struct log *log = opened;
  stop_reading(log);
  mdb_env_close(log->environment);
}

int main(int argc, char **argv) {
  struct contender lmdb = {.open = open_log,
                           .append = append,
                           .batch = batch,
                           .get = get,
                           .scan = scan,
                           .count = count,
                           .close = close_log,
                           .threads = 1};
  int major, minor, patch;
  mdb_version(&major, &minor, &patch);
  snprintf(lmdb.version, sizeof lmdb.version, "%d.%d.%d", major, minor, patch);
  return run(&lmdb, argc, argv);
}
