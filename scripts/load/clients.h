/* The audience: one WebSocket connection a user, `u0000000`, `u0000001` …; each message is checked and timed as it comes.

   A body holds a stamp (stamp.h): its number counts from 1 for each user, its time is `now_ns` of the sending. */

#ifndef CLIENTS_H
#define CLIENTS_H

#include <stddef.h>
#include <stdint.h>

#include "check.h"
#include "latency.h"

enum { EDGES_MAX = 16 };

/* What the audience has seen. `received` counts each message once. `on_message` is called for each, and may be NULL. */
struct audience {
    size_t count, open, closed;
    uint64_t received;
    struct faults faults;
    struct latency latency;
    void (*on_message)(size_t user, uint64_t number);
};

extern struct audience audience;

/* Where to sit: `edges` are HOST:PORT and taken in turn, `tokens` one a user, `query` is appended to the address. `owed`
   messages, numbered from 1, have been sent to each of them already. */
struct seats {
    char *edges[EDGES_MAX];
    size_t edge_count;
    char **tokens;
    const char *query;
    uint64_t owed;
};

/* Connect so many users, `at_once` handshakes under way at a time, and return when all are welcome. `given` is kept. */
void clients_connect(size_t count, size_t at_once, const struct seats *given);

/* Return what a user has been sent and has received; the sender counts `sent` up. */
struct receiver *client_receiver(size_t user);

/* Tell how many of the messages sent have not come, to all users together. */
uint64_t clients_missing(void);

/* Count what is missing as lost, and begin a new count of everything. */
void clients_settle(void);
void clients_forget(void);

/* Have the next number be the same for all: the next message goes to everybody. Settle first. */
void clients_align(void);

#endif
