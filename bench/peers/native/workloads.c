/* See workloads.h. The loops are those of ../../compare/measure_*.mjs. */
#define _GNU_SOURCE
#include "workloads.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RING 64
#define BATCH_MAX 1024
#define WARM_PART 0.2

volatile uint64_t sink;

static uint8_t *payloads[RING];
static const uint8_t *batch_of[BATCH_MAX];

double now_ns(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

void fail(const char *what, const char *why) {
  printf("{\"error\":\"%s: %s\"}\n", what, why);
  exit(0);
}

void store_key(uint8_t key[8], uint64_t index) {
  for (int i = 7; i >= 0; i--, index >>= 8) key[i] = (uint8_t)index;
}

uint64_t load_key(const uint8_t key[8]) {
  uint64_t index = 0;
  for (int i = 0; i < 8; i++) index = index << 8 | key[i];
  return index;
}

static void make_payloads(size_t bytes) {
  uint32_t state = 0x9e3779b9u;
  for (int i = 0; i < RING; i++) {
    payloads[i] = malloc(bytes);
    for (size_t at = 0; at < bytes; at++) {
      state = (state ^ state >> 15) * 0x2c1b3c6du + 0x6d2b79f5u;
      payloads[i][at] = (uint8_t)(state >> 24);
    }
  }
  for (int i = 0; i < BATCH_MAX; i++) batch_of[i] = payloads[i % RING];
}

static int compare_doubles(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Turns of `entries` entries until the budget or the space is used up. */
struct turns {
  double start, budget_ns;
  uint64_t turn, turns_max, warm;
  size_t entries;
};

static struct turns begin(const struct job *job, size_t entries) {
  uint64_t most = job->bytes_max / (entries * job->bytes);
  struct turns turns = {now_ns(), job->budget_ms * 1e6, 0,
                        most < 4 ? 4 : most, UINT64_MAX, entries};
  return turns;
}

static int another(struct turns *turns) {
  double spent = now_ns() - turns->start;
  if (turns->warm == UINT64_MAX) {
    if (spent >= turns->budget_ns * WARM_PART ||
        turns->turn >= (uint64_t)((double)turns->turns_max * WARM_PART)) {
      turns->warm = turns->turn;
      turns->start = now_ns();
    }
    return 1;
  }
  if (turns->turn < turns->warm + 3) return 1;
  return spent < turns->budget_ns && turns->turn < turns->turns_max;
}

static double ns_per_entry(const struct turns *turns, uint64_t *count) {
  *count = (turns->turn - turns->warm) * turns->entries;
  return (now_ns() - turns->start) / (double)*count;
}

static void print(const struct contender *contender, double ns,
                  uint64_t count) {
  printf("{\"version\":\"%s\",\"ns\":%.2f,\"count\":%llu}\n",
         contender->version, ns, (unsigned long long)count);
}

static void measure_append(const struct contender *contender,
                           const struct job *job) {
  void *log = contender->open(job, 0);
  size_t group = (1 << 20) / job->bytes;
  if (group > 1000) group = 1000;
  if (group < 1) group = 1;
  struct turns turns = begin(job, group);
  uint64_t count;
  for (; another(&turns); turns.turn++)
    for (size_t i = 0; i < group; i++)
      contender->append(log, payloads[i % RING], job->bytes);
  double ns = ns_per_entry(&turns, &count);
  contender->close(log);
  print(contender, ns, count);
}

static void measure_durable(const struct contender *contender,
                            const struct job *job) {
  void *log = contender->open(job, 1);
  size_t room = 1 << 20, taken = 0;
  double *times = malloc(room * sizeof *times);
  struct turns turns = begin(job, 1);
  uint64_t count;
  for (; another(&turns); turns.turn++) {
    double start = now_ns();
    contender->append(log, payloads[turns.turn % RING], job->bytes);
    if (turns.warm != UINT64_MAX && taken < room)
      times[taken++] = now_ns() - start;
  }
  double ns = ns_per_entry(&turns, &count);
  contender->close(log);
  qsort(times, taken, sizeof *times, compare_doubles);
  printf("{\"version\":\"%s\",\"ns\":%.0f,\"count\":%llu,\"p50\":%.0f,"
         "\"p99\":%.0f,\"worst\":%.0f}\n",
         contender->version, ns, (unsigned long long)count, times[taken / 2],
         times[taken * 99 / 100], times[taken - 1]);
}

struct caller {
  const struct contender *contender;
  const struct job *job;
  void *log;
  pthread_barrier_t *barrier;
  uint64_t count;
};

static void *call(void *argument) {
  struct caller *caller = argument;
  pthread_barrier_wait(caller->barrier);
  double until = now_ns() + caller->job->budget_ms * 1e6;
  do {
    caller->contender->append(caller->log, payloads[caller->count % RING],
                              caller->job->bytes);
    caller->count++;
  } while (now_ns() < until);
  return NULL;
}

static void measure_callers(const struct contender *contender,
                            const struct job *job, int callers_count) {
  if (callers_count < 1 || callers_count > BATCH_MAX)
    fail(job->measure, "too many callers, or none");
  void *log = contender->open(job, 1);
  uint64_t count = 0;
  double ns;
  if (contender->threads) {
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, callers_count + 1);
    pthread_t threads[callers_count];
    struct caller callers[callers_count];
    for (int i = 0; i < callers_count; i++) {
      callers[i] = (struct caller){contender, job, log, &barrier, 0};
      pthread_create(&threads[i], NULL, call, &callers[i]);
    }
    pthread_barrier_wait(&barrier);
    double start = now_ns();
    for (int i = 0; i < callers_count; i++) {
      pthread_join(threads[i], NULL);
      count += callers[i].count;
    }
    ns = (now_ns() - start) / (double)count;
  } else {
    struct turns turns = begin(job, callers_count);
    for (; another(&turns); turns.turn++)
      contender->batch(log, batch_of, callers_count, job->bytes);
    ns = ns_per_entry(&turns, &count);
  }
  contender->close(log);
  print(contender, ns, count);
}

static void measure_batch(const struct contender *contender,
                          const struct job *job, size_t size, int durable) {
  void *log = contender->open(job, durable);
  struct turns turns = begin(job, size);
  uint64_t count;
  for (; another(&turns); turns.turn++)
    contender->batch(log, batch_of, size, job->bytes);
  double ns = ns_per_entry(&turns, &count);
  contender->close(log);
  print(contender, ns, count);
}

static void write_all(const struct contender *contender, const struct job *job,
                      void *log) {
  size_t size = (1 << 20) / job->bytes;
  if (size > 1000) size = 1000;
  if (size < 1) size = 1;
  for (size_t bytes = 0; bytes < job->bytes_max; bytes += size * job->bytes)
    contender->batch(log, batch_of, size, job->bytes);
}

static void measure_fill(const struct contender *contender,
                         const struct job *job, int die) {
  void *log = contender->open(job, 0);
  write_all(contender, job, log);
  uint64_t count = contender->count(log);
  if (die) {
    printf("{\"version\":\"%s\",\"count\":%llu}\n", contender->version,
           (unsigned long long)count);
    fflush(stdout);
    kill(getpid(), SIGKILL);
  }
  contender->close(log);
  print(contender, 0, count);
}

static void measure_get(const struct contender *contender,
                        const struct job *job) {
  void *log = contender->open(job, 0);
  uint64_t entries = contender->count(log), count = 0;
  uint8_t *target = malloc(job->bytes + 64);
  uint32_t state = 12345;
  double start = 0, budget = job->budget_ms * 1e6;
  for (int warm = 1; warm >= 0; warm--) {
    start = now_ns();
    count = 0;
    while (now_ns() - start < (warm ? budget * WARM_PART : budget)) {
      for (int i = 0; i < 100; i++) {
        state = state * 1103515245u + 12345u & 0x7fffffffu;
        contender->get(log, (uint64_t)state * entries >> 31, target);
        sink += target[0];
      }
      count += 100;
    }
  }
  double ns = (now_ns() - start) / (double)count;
  contender->close(log);
  print(contender, ns, count);
}

static void measure_scan(const struct contender *contender,
                         const struct job *job) {
  void *log = contender->open(job, 0);
  uint64_t entries = contender->count(log);
  double started = now_ns(), best = 0;
  do {
    double start = now_ns();
    uint64_t seen = contender->scan(log);
    double ns = (now_ns() - start) / (double)seen;
    if (seen != entries) fail("scan", "saw another number of entries");
    if (best == 0 || ns < best) best = ns;
  } while (now_ns() - started < job->budget_ms * 1e6);
  contender->close(log);
  print(contender, best, entries);
}

static void measure_open(const struct contender *contender,
                         const struct job *job) {
  double start = now_ns();
  void *log = contender->open(job, 0);
  uint64_t count = contender->count(log);
  double ns = now_ns() - start;
  contender->close(log);
  print(contender, ns, count);
}

static void resident(double *all, double *own) {
  *all = *own = 0;
  FILE *file = fopen("/proc/self/status", "r");
  char line[256];
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    sscanf(line, "VmRSS: %lf", all);
    sscanf(line, "RssAnon: %lf", own);
  }
  if (file != NULL) fclose(file);
}

static void measure_memory(const struct contender *contender,
                           const struct job *job) {
  double all[2], own[2];
  resident(&all[0], &own[0]);
  void *log = contender->open(job, 0);
  write_all(contender, job, log);
  uint64_t count = contender->scan(log);
  resident(&all[1], &own[1]);
  contender->close(log);
  printf("{\"version\":\"%s\",\"count\":%llu,\"residentBytes\":%.0f,"
         "\"ownBytes\":%.0f}\n",
         contender->version, (unsigned long long)count,
         (all[1] - all[0]) * 1024, (own[1] - own[0]) * 1024);
}

int run(const struct contender *contender, int argc, char **argv) {
  if (argc != 6) fail("arguments", "MEASURE FOLDER BYTES BUDGET_MS BYTES_MAX");
  struct job job = {argv[1], argv[2], strtoull(argv[3], NULL, 10),
                    strtod(argv[4], NULL), strtoull(argv[5], NULL, 10)};
  make_payloads(job.bytes);
  const char *name = job.measure;
  int callers_count;
#define IS(text) (strcmp(name, text) == 0)
  if (IS("load")) print(contender, 0, 0);
  else if (IS("append")) measure_append(contender, &job);
  else if (IS("append durable")) measure_durable(contender, &job);
  else if (sscanf(name, "append durable, %d callers", &callers_count) == 1)
    measure_callers(contender, &job, callers_count);
  else if (IS("batch of 100")) measure_batch(contender, &job, 100, 0);
  else if (IS("batch of 1000")) measure_batch(contender, &job, 1000, 0);
  else if (IS("batch of 100, durable")) measure_batch(contender, &job, 100, 1);
  else if (IS("batch of 1000, durable"))
    measure_batch(contender, &job, 1000, 1);
  else if (IS("fill")) measure_fill(contender, &job, 0);
  else if (IS("fill and die")) measure_fill(contender, &job, 1);
  else if (IS("get")) measure_get(contender, &job);
  else if (IS("scan")) measure_scan(contender, &job);
  else if (IS("open")) measure_open(contender, &job);
  else if (IS("memory")) measure_memory(contender, &job);
  else fail(name, "no such thing");
  return 0;
}
