/*
 * The floor: what a log in C costs that does nothing but what a log must. An
 * entry is a length, its CRC-32 and the data; a count in the first page says
 * how many there are. No rotation, no recovery, no readers elsewhere.
 *
 * Not synced: stores into a mapping of a file whose space is allocated.
 * Durable: pwrite into a file of zeros that are on the disk already, and
 * fdatasync; 64 callers, or a batch, share one. Reads go through the mapping
 * and check the CRC-32. "append, warm" writes over the same 64 MiB again and
 * again: pages that are there, against "append", a burst into new ones.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../peers/native/workloads.h"
#include "crc32_fold.h"
#include "stall.h"

#define PAGE 4096
#define HEADER 16
#define DURABLE_BYTES ((size_t)16 << 20)
#define WARM_BYTES ((size_t)64 << 20)

struct log {
  int fd, durable;
  uint8_t *map;
  size_t size, end;
  _Atomic uint64_t *count;
  uint8_t *stage;
  size_t stage_bytes;
};

static size_t frame_bytes(size_t bytes) {
  return (HEADER + bytes + 7) & ~(size_t)7;
}

static void check(int ok, const char *what) {
  if (!ok) fail(what, strerror(errno));
}

static void *open_log(const struct job *job, int durable) {
  char path[4096];
  snprintf(path, sizeof path, "%s/log", job->folder);
  struct log *log = calloc(1, sizeof *log);
  log->durable = durable;
  log->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
  check(log->fd >= 0, "open");
  struct stat found;
  check(fstat(log->fd, &found) == 0, "fstat");
  log->size = (size_t)found.st_size;
  if (log->size == 0) {
    size_t per = frame_bytes(job->bytes);
    /* What is written beyond bytes_max: the least number of turns. */
    size_t most = job->bytes_max / job->bytes + 8 * 1000 + 1;
    log->size = durable ? DURABLE_BYTES : PAGE + most * per;
    log->size = (log->size + PAGE - 1) & ~(size_t)(PAGE - 1);
    if (log->size < PAGE + 2 * per) log->size = 2 * PAGE + 2 * per;
    errno = posix_fallocate(log->fd, 0, (off_t)log->size);
    check(errno == 0, "posix_fallocate");
    static const uint8_t zeros[PAGE];
    /* Pages of 4 KiB: greater writes make folios that sync as a whole. */
    for (size_t at = 0; durable && at < log->size; at += PAGE)
      check(pwrite(log->fd, zeros, PAGE, (off_t)at) == PAGE, "pwrite");
    if (durable) check(fdatasync(log->fd) == 0, "fdatasync");
  }
  if (log->size < PAGE) fail("open", "not a log");
  log->map = mmap(NULL, log->size, PROT_READ | PROT_WRITE, MAP_SHARED, log->fd,
                  0);
  check(log->map != MAP_FAILED, "mmap");
  log->count = (_Atomic uint64_t *)log->map;
  log->end = PAGE + *log->count * frame_bytes(job->bytes);
  return log;
}

static void put_frame(uint8_t *at, const uint8_t *data, size_t bytes) {
  uint32_t length = (uint32_t)bytes, crc = crc32_of(data, bytes);
  memcpy(at, &length, 4);
  memcpy(at + 4, &crc, 4);
  memset(at + 8, 0, 8);
  memcpy(at + HEADER, data, bytes);
}

/* Frames of a durable batch, in as few writes as there are wraps. */
static void write_durable(struct log *log, const uint8_t *const *data,
                          size_t count, size_t bytes) {
  size_t per = frame_bytes(bytes);
  if (log->stage_bytes < count * per)
    log->stage = realloc(log->stage, log->stage_bytes = count * per);
  for (size_t from = 0; from < count;) {
    size_t fits = (log->size - log->end) / per;
    if (fits == 0) {
      log->end = PAGE;
      continue;
    }
    size_t now = count - from < fits ? count - from : fits;
    for (size_t i = 0; i < now; i++)
      put_frame(log->stage + i * per, data[from + i], bytes);
    check(pwrite(log->fd, log->stage, now * per, (off_t)log->end) ==
              (ssize_t)(now * per),
          "pwrite");
    log->end += now * per;
    from += now;
  }
  check(fdatasync(log->fd) == 0, "fdatasync");
}

static void append(void *opened, const uint8_t *data, size_t bytes) {
  struct log *log = opened;
  if (log->durable) {
    write_durable(log, &data, 1, bytes);
    return;
  }
  put_frame(log->map + log->end, data, bytes);
  log->end += frame_bytes(bytes);
  *log->count += 1;
}

static void batch(void *opened, const uint8_t *const *data, size_t count,
                  size_t bytes) {
  struct log *log = opened;
  if (log->durable) {
    write_durable(log, data, count, bytes);
    return;
  }
  for (size_t i = 0; i < count; i++) {
    put_frame(log->map + log->end, data[i], bytes);
    log->end += frame_bytes(bytes);
  }
  *log->count += count;
}

static size_t check_frame(const uint8_t *at) {
  uint32_t length, crc;
  memcpy(&length, at, 4);
  memcpy(&crc, at + 4, 4);
  if (crc32_of(at + HEADER, length) != crc) fail("get", "damaged entry");
  return length;
}

static size_t get_frame(const uint8_t *at, uint8_t *target) {
  size_t length = check_frame(at);
  memcpy(target, at + HEADER, length);
  return length;
}

static size_t get(void *opened, uint64_t index, uint8_t *target) {
  struct log *log = opened;
  uint32_t length;
  memcpy(&length, log->map + PAGE, 4);
  return get_frame(log->map + PAGE + index * frame_bytes(length), target);
}

static uint64_t scan(void *opened) {
  struct log *log = opened;
  static uint8_t target[1 << 20];
  const uint8_t *at = log->map + PAGE;
  uint64_t count = *log->count;
  for (uint64_t i = 0; i < count; i++) {
    at += frame_bytes(get_frame(at, target));
    sink += target[0];
  }
  return count;
}

/* As "scan", but each entry is checked where it lies, and not copied. */
static uint64_t scan_in_place(void *opened) {
  struct log *log = opened;
  const uint8_t *at = log->map + PAGE;
  uint64_t count = *log->count;
  for (uint64_t i = 0; i < count; i++) {
    size_t bytes = check_frame(at);
    sink += at[HEADER];
    at += frame_bytes(bytes);
  }
  return count;
}

/* As "get", but the entry is checked where it lies; one byte is handed out. */
static size_t view(void *opened, uint64_t index, uint8_t *target) {
  struct log *log = opened;
  uint32_t length;
  memcpy(&length, log->map + PAGE, 4);
  const uint8_t *at = log->map + PAGE + index * frame_bytes(length);
  check_frame(at);
  target[0] = at[HEADER];
  return length;
}

static uint64_t count(void *opened) {
  return *((struct log *)opened)->count;
}

static void close_log(void *opened) {
  struct log *log = opened;
  munmap(log->map, log->size);
  /* What was allocated and not used is given back. */
  if (!log->durable) check(ftruncate(log->fd, (off_t)log->end) == 0, "ftruncate");
  close(log->fd);
}

/* The loop of "append" over pages that are there already. */
static void append_warm(const struct contender *contender, struct job job) {
  job.bytes_max = WARM_BYTES;
  struct log *log = open_log(&job, 0);
  memset(log->map + PAGE, 1, log->size - PAGE);
  uint8_t *data = malloc(job.bytes);
  memset(data, 7, job.bytes);
  uint64_t written = 0;
  double start = now_ns();
  while (now_ns() - start < job.budget_ms * 1e6) {
    for (int i = 0; i < 100; i++) {
      if (log->size - log->end < frame_bytes(job.bytes)) log->end = PAGE;
      data[0] = (uint8_t)i;
      append(log, data, job.bytes);
    }
    written += 100;
  }
  double ns = (now_ns() - start) / (double)written;
  printf("{\"version\":\"%s\",\"ns\":%.2f,\"count\":%llu}\n",
         contender->version, ns, (unsigned long long)written);
  close_log(log);
}

int main(int argc, char **argv) {
  crc32_begin();
  if (!crc32_agrees()) fail("crc32", "differs from zlib's");
  struct contender floor = {.open = open_log,
                            .append = append,
                            .batch = batch,
                            .get = get,
                            .scan = scan,
                            .count = count,
                            .close = close_log};
  snprintf(floor.version, sizeof floor.version, "crc32 by %s",
           folds ? "pclmul" : "zlib");
  if (argc != 6) return run(&floor, argc, argv);
  struct job job = {argv[1], argv[2], strtoull(argv[3], NULL, 10),
                    strtod(argv[4], NULL), strtoull(argv[5], NULL, 10)};
#define IS(text) (strcmp(job.measure, text) == 0)
  if (IS("append, warm")) append_warm(&floor, job);
  else if (IS("stall, always")) measure_stall(&job, 1);
  else if (IS("stall, interval")) measure_stall(&job, 0);
  else {
    /* The loops of "get" and "scan", without the copies. */
    if (IS("view")) floor.get = view, argv[1] = "get";
    if (IS("scan, in place")) floor.scan = scan_in_place, argv[1] = "scan";
    return run(&floor, argc, argv);
  }
  return 0;
}
