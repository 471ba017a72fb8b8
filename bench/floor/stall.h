/* See stall.c. */
#ifndef WALRUS_BENCH_STALL_H
#define WALRUS_BENCH_STALL_H

#include "../peers/native/workloads.h"

/* Measures and prints one line of JSON, in milliseconds. */
void measure_stall(const struct job *job, int always);

#endif
