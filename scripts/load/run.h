/* One measurement: messages appended for some seconds, until all have come or nothing comes any more. */

#ifndef RUN_H
#define RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "latency.h"
#include "loop.h"

/* How to send: each message to one of the first `users`, or with `to_all` to all of them, by a publication that says so.
   Either `outstanding` messages of each user (or to all) are under way at any time (a closed loop: it finds saturation), or
   `rate` a second are sent at times fixed beforehand, whatever comes of them (an open loop: latency counts from the time a
   message was due, so waiting in the generator is not hidden). `publications` has the one to use for each user. */
struct plan {
    size_t users, outstanding;
    double rate, seconds;
    bool to_all;
    const unsigned char *publications;
};

/* What came of it. `in_time` is what arrived while messages were sent, in `sending_s`; `last` is how long a message to all was
   on its way to the last of them; `late` says how far behind its plan an open loop was; `stalled` that it had to leave messages
   out because Redis took none. */
struct outcome {
    uint64_t sent, in_time;
    double sending_s;
    struct spent spent;
    struct latency last, late;
    uint64_t stalled;
};

void run(const struct plan *plan, struct outcome *outcome);

/* Wait until nothing is missing, or nothing has come for some seconds. */
void run_dry(void);

/* Listen for a moment longer: what comes twice may come a little later than what was waited for. */
void run_linger(void);

#endif
