/* How long things took: a histogram whose buckets are within 1 % of each other, so that no sample has to be kept.

   As HdrHistogram does it: below 128 ns a bucket each, and above, 128 buckets for each doubling. */

#ifndef LATENCY_H
#define LATENCY_H

#include <stdint.h>

enum { LATENCY_BUCKETS = 58 * 128 };

struct latency {
    uint64_t counts[LATENCY_BUCKETS];
    uint64_t count, max_ns;
};

void latency_note(struct latency *latency, uint64_t ns);

/* Return what a share (0 to 1) of the samples did not exceed, in µs; 0 when there is none. */
double latency_us(const struct latency *latency, double share);

#endif
