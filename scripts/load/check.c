#include "check.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"

static void forget_skipped(struct receiver *receiver, unsigned at) {
    receiver->skipped_count--;
    memmove(receiver->skipped + at, receiver->skipped + at + 1, (receiver->skipped_count - at) * sizeof *receiver->skipped);
}

static void skip(struct receiver *receiver, uint64_t number, struct faults *faults) {
    if (receiver->skipped == NULL) receiver->skipped = calloc(SKIPPED_MAX, sizeof *receiver->skipped);
    if (receiver->skipped == NULL) fail("out of memory");
    if (receiver->skipped_count == SKIPPED_MAX) {
        forget_skipped(receiver, 0);
        faults->lost++;
    }
    receiver->skipped[receiver->skipped_count++] = number;
}

static bool take_late(struct receiver *receiver, uint64_t number, struct faults *faults) {
    for (unsigned at = 0; at < receiver->skipped_count; at++) {
        if (receiver->skipped[at] == number) {
            forget_skipped(receiver, at);
            faults->out_of_order++;
            return true;
        }
    }
    if (number >= receiver->overdue && number < receiver->overdue_end) receiver->overdue = number + 1;
    else faults->duplicated++;
    return false;
}

bool receiver_take(struct receiver *receiver, uint64_t number, struct faults *faults) {
    bool first = true;
    if (number > receiver->sent) fail("number %llu came, and was never sent", (unsigned long long)number);
    if (number < receiver->next) {
        first = take_late(receiver, number, faults);
    } else {
        while (receiver->next < number) skip(receiver, receiver->next++, faults);
        receiver->next++;
    }
    receiver->received += first;
    return first;
}

uint64_t receiver_missing(const struct receiver *receiver) {
    return receiver->sent + 1 - receiver->next + receiver->skipped_count;
}

void receiver_settle(struct receiver *receiver, struct faults *faults) {
    faults->lost += receiver_missing(receiver);
    if (receiver->next <= receiver->sent) {
        receiver->overdue = receiver->next;
        receiver->overdue_end = receiver->sent + 1;
    }
    receiver->next = receiver->sent + 1;
    receiver->skipped_count = 0;
}
