/*
 * How long a loop is held up that does nothing but store: turns of frames into
 * an allocated mapping, with rotation (fallocate, mmap), while a thread syncs
 * what was stored: at once ("stall, always"), with at most WINDOW_BYTES not
 * synced yet, or each second ("stall, interval"). Waiting for that room is not
 * counted: an event loop is free meanwhile. What is left are copies, page
 * faults, the file system's locks and rotations.
 */
#define _GNU_SOURCE
#include "stall.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../peers/native/workloads.h"
#include "crc32_fold.h"

#define SEGMENT_BYTES ((size_t)64 << 20)
#define TURN_BYTES ((size_t)64 << 10)
#define WINDOW_BYTES ((size_t)8 << 20)
#define SEGMENTS_MAX 1024

struct segment {
  int fd;
  uint8_t *map;
  int sealed;
};

static struct {
  pthread_mutex_t mutex;
  pthread_cond_t stored, synced;
  struct segment segments[SEGMENTS_MAX];
  size_t first, count;            /* of segments that may be dirty */
  size_t stored_bytes, synced_bytes;
  int always, ended;
} state = {.mutex = PTHREAD_MUTEX_INITIALIZER,
           .stored = PTHREAD_COND_INITIALIZER,
           .synced = PTHREAD_COND_INITIALIZER};

static void begin_segment(const char *folder) {
  if (state.count == SEGMENTS_MAX) fail("stall", "too many segments");
  char path[4096];
  snprintf(path, sizeof path, "%s/stall-%zu", folder, state.count);
  struct segment next = {.sealed = 0};
  next.fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
  if (next.fd < 0) fail("open", strerror(errno));
  errno = posix_fallocate(next.fd, 0, (off_t)SEGMENT_BYTES);
  if (errno != 0) fail("posix_fallocate", strerror(errno));
  next.map = mmap(NULL, SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
                  next.fd, 0);
  if (next.map == MAP_FAILED) fail("mmap", strerror(errno));
  pthread_mutex_lock(&state.mutex);
  if (state.count > 0) state.segments[state.count - 1].sealed = 1;
  state.segments[state.count++] = next;
  pthread_mutex_unlock(&state.mutex);
}

/* One round: all that was stored before it; frees the segments that ended. */
static void sync_round(void) {
  size_t first = state.first, count = state.count;
  size_t bytes = state.stored_bytes;
  struct segment list[SEGMENTS_MAX];
  memcpy(list, state.segments, count * sizeof *list);
  pthread_mutex_unlock(&state.mutex);
  for (size_t i = first; i < count; i++) {
    if (fdatasync(list[i].fd) != 0) fail("fdatasync", strerror(errno));
    if (!list[i].sealed) continue;
    munmap(list[i].map, SEGMENT_BYTES);
    close(list[i].fd);
  }
  pthread_mutex_lock(&state.mutex);
  while (first < count && list[first].sealed) first++;
  state.first = first;
  state.synced_bytes = bytes;
  pthread_cond_signal(&state.synced);
}

static void *sync_rounds(void *argument) {
  pthread_mutex_lock(&state.mutex);
  while (!state.ended) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 1;
    if (!state.always)
      pthread_cond_timedwait(&state.stored, &state.mutex, &until);
    else if (state.stored_bytes == state.synced_bytes)
      pthread_cond_wait(&state.stored, &state.mutex);
    if (state.stored_bytes > state.synced_bytes) sync_round();
  }
  pthread_mutex_unlock(&state.mutex);
  return argument;
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static size_t put(uint8_t *at, const uint8_t *data, size_t bytes) {
  uint32_t length = (uint32_t)bytes, crc = crc32_of(data, bytes);
  memcpy(at, &length, 4);
  memcpy(at + 4, &crc, 4);
  memset(at + 8, 0, 8);
  memcpy(at + 16, data, bytes);
  return (16 + bytes + 7) & ~(size_t)7;
}

/* Tells the syncing thread, and waits until there is room for another turn. */
static void end_turn(size_t bytes) {
  pthread_mutex_lock(&state.mutex);
  state.stored_bytes += bytes;
  if (state.always) {
    pthread_cond_signal(&state.stored);
    while (state.stored_bytes - state.synced_bytes > WINDOW_BYTES)
      pthread_cond_wait(&state.synced, &state.mutex);
  }
  pthread_mutex_unlock(&state.mutex);
}

/* Turns until so many bytes are stored or the time is over; their times. */
static size_t store_turns(const struct job *job, double *times, size_t most) {
  size_t per_turn = TURN_BYTES / job->bytes, at = 0, turns = 0;
  uint8_t *data = malloc(job->bytes);
  memset(data, 7, job->bytes);
  if (per_turn < 1) per_turn = 1;
  double end = now_ns() + job->budget_ms * 1e6;
  begin_segment(job->folder);
  while (turns < most && now_ns() < end) {
    double start = now_ns();
    for (size_t i = 0; i < per_turn; i++) {
      if (SEGMENT_BYTES - at < job->bytes + 32) {
        begin_segment(job->folder);
        at = 0;
      }
      at += put(state.segments[state.count - 1].map + at, data, job->bytes);
    }
    times[turns++] = (now_ns() - start) / 1e6;
    end_turn(per_turn * job->bytes);
  }
  free(data);
  return turns;
}

void measure_stall(const struct job *job, int always) {
  size_t most = job->bytes_max / TURN_BYTES + 1;
  double *times = malloc(most * sizeof *times);
  pthread_t thread;
  crc32_begin();
  state.always = always;
  pthread_create(&thread, NULL, sync_rounds, NULL);
  size_t turns = store_turns(job, times, most);
  pthread_mutex_lock(&state.mutex);
  state.ended = 1;
  pthread_cond_signal(&state.stored);
  pthread_mutex_unlock(&state.mutex);
  pthread_join(thread, NULL);
  qsort(times, turns, sizeof *times, compare_doubles);
#define AT(part) times[(size_t)((double)turns * part)]
  printf("{\"turns\":%zu,\"mebibytes\":%zu,\"rotations\":%zu,\"p50\":%.4f,"
         "\"p99\":%.4f,\"p999\":%.4f,\"max\":%.4f}\n",
         turns, state.stored_bytes >> 20, state.count - 1, AT(0.5), AT(0.99),
         AT(0.999), times[turns - 1]);
}
