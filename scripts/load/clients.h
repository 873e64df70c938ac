/* The audience: one WebSocket connection a user, `u0`, `u1` …; each message is checked and timed as it comes.

   A body begins with {"n":NUMBER,"at":TIME: the number counts from 1 for each user, the time is `now_ns` of the sending. */

#ifndef CLIENTS_H
#define CLIENTS_H

#include <stddef.h>
#include <stdint.h>

#include "check.h"
#include "latency.h"

/* What the audience has seen. `received` counts each message once. `on_message` is called for each, and may be NULL. */
struct audience {
    size_t count, open, closed;
    uint64_t received;
    struct faults faults;
    struct latency latency;
    void (*on_message)(size_t user);
};

extern struct audience audience;

/* Connect the users from `audience.count` on, `at_once` handshakes under way at a time, and return when all are welcome.

   `edges` are HOST:PORT and taken in turn, `tokens` one a user, `query` is appended to the address. `owed` messages, numbered
   from 1, have been sent to each of them already. */
void clients_connect(size_t count, size_t at_once, char *const *edges, size_t edge_count, char *const *tokens,
                     const char *query, uint64_t owed);

/* Return what a user has been sent and has received; the sender counts `sent` up. */
struct receiver *client_receiver(size_t user);

/* Tell how many of the messages sent have not come, to all users together. */
uint64_t clients_missing(void);

/* Count what is missing as lost, and begin a new count of everything. */
void clients_settle(void);
void clients_forget(void);

#endif
