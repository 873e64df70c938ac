/* Whether one receiver got everything once and in order. The sender numbers its messages from 1, for each receiver. */

#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stdint.h>

/* What went wrong, over all receivers. */
struct faults {
    uint64_t lost, duplicated, out_of_order;
};

enum { SKIPPED_MAX = 32 };

/* `skipped` are numbers passed over that may still come, late; the oldest is given up for lost when there are too many. From
   `overdue` to before `overdue_end` are those that were called lost while they were on their way: they may still come, once. */
struct receiver {
    uint64_t sent, next, received, overdue, overdue_end;
    uint64_t *skipped;
    unsigned skipped_count;
};

/* Take a number that came; return whether it is the first time. */
bool receiver_take(struct receiver *receiver, uint64_t number, struct faults *faults);

/* Tell how many of those sent have not come. */
uint64_t receiver_missing(const struct receiver *receiver);

/* Call what is missing lost, and wait for none of it any more; the last of it may still come, and then counts for nothing. */
void receiver_settle(struct receiver *receiver, struct faults *faults);

#endif
