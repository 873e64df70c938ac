/* One thread, one epoll: who is called when which file is ready, and what that cost.

   A file has a `struct watch` as its owner's member; the owner's function gets it back. */

#ifndef LOOP_H
#define LOOP_H

#include <stdint.h>

struct watch {
    int fd;
    uint32_t events;
    void (*ready)(struct watch *watch, uint32_t events);
};

/* Seconds: on the clock, on a core, asleep because nothing was ready (or just woken), and ready but without a core.
   Where `cpu` comes near `clock`, the generator is the limit; where `without_core` is large, the machine is. */
struct spent {
    double clock, cpu, asleep, without_core;
};

void loop_watch(struct watch *watch, uint32_t events);
void loop_change(struct watch *watch, uint32_t events);

/* Wait until something is ready, `timeout_ms` at most, and have it handled. */
void loop_turn(int timeout_ms);

/* Return what has been spent since the process began; the difference of two says what lies between. */
struct spent loop_spent(void);
struct spent loop_spent_since(struct spent before);

uint64_t now_ns(void);

#endif
