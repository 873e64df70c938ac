#include "latency.h"

enum { EXACT = 128, EXACT_BITS = 7 };

static unsigned bucket_of(uint64_t ns) {
    if (ns < EXACT) return (unsigned)ns;
    unsigned doublings = 63u - (unsigned)__builtin_clzll(ns) - EXACT_BITS;
    return (doublings + 1) * EXACT + (unsigned)((ns >> doublings) - EXACT);
}

static uint64_t middle_of(unsigned bucket) {
    if (bucket < EXACT) return bucket;
    unsigned doublings = bucket / EXACT - 1;
    uint64_t lowest = (uint64_t)(EXACT + bucket % EXACT) << doublings;
    return lowest + (((uint64_t)1 << doublings) >> 1);
}

void latency_note(struct latency *latency, uint64_t ns) {
    latency->counts[bucket_of(ns)]++;
    latency->count++;
    if (ns > latency->max_ns) latency->max_ns = ns;
}

double latency_us(const struct latency *latency, double share) {
    uint64_t wanted = (uint64_t)(share * (double)latency->count), passed = 0;
    if (latency->count == 0) return 0;
    if (wanted >= latency->count) return (double)latency->max_ns / 1e3;
    for (unsigned bucket = 0; bucket < LATENCY_BUCKETS; bucket++) {
        passed += latency->counts[bucket];
        if (passed > wanted) return (double)middle_of(bucket) / 1e3;
    }
    return (double)latency->max_ns / 1e3;
}
