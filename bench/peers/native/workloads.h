/*
 * The same work as ../../compare does in JavaScript, for programs in C. A
 * program fills in a `contender` and calls `run`, which reads the arguments
 * MEASURE FOLDER BYTES BUDGET_MS BYTES_MAX and prints one line of JSON.
 */
#ifndef WALRUS_BENCH_WORKLOADS_H
#define WALRUS_BENCH_WORKLOADS_H

#include <stddef.h>
#include <stdint.h>

struct job {
  const char *measure;
  const char *folder;
  size_t bytes;     /* of an entry's data */
  double budget_ms; /* how long to measure */
  size_t bytes_max; /* how much data to write at most */
};

struct contender {
  char version[64];
  /* Opens a log in the folder; `durable`: appends are synced. */
  void *(*open)(const struct job *job, int durable);
  /* One entry, from any of the 64 threads when `threads` is set. */
  void (*append)(void *log, const uint8_t *data, size_t bytes);
  /* Entries that become visible, or durable, together. */
  void (*batch)(void *log, const uint8_t *const *data, size_t count,
                size_t bytes);
  /* Reads one entry into `target` and returns its size. */
  size_t (*get)(void *log, uint64_t index, uint8_t *target);
  /* Visits every entry and returns how many there are. */
  uint64_t (*scan)(void *log);
  uint64_t (*count)(void *log);
  void (*close)(void *log);
  /* Whether 64 callers are 64 threads; else they are one `batch` of 64. */
  int threads;
};

/* Answers one job; the exit code of the program. */
int run(const struct contender *contender, int argc, char **argv);

/* Ends the program with a line of JSON that tells why. */
void fail(const char *what, const char *why) __attribute__((noreturn));

/* A clock in nanoseconds. */
double now_ns(void);

/* Entry numbers as 8 bytes whose order is that of the numbers. */
void store_key(uint8_t key[8], uint64_t index);
uint64_t load_key(const uint8_t key[8]);

/* Keeps a read byte alive for the optimizer. */
extern volatile uint64_t sink;

#endif
