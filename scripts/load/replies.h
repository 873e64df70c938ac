/* What those who take publications answer: how long a reply is, and whether it refuses. */

#ifndef REPLIES_H
#define REPLIES_H

#include <stdbool.h>
#include <stddef.h>

struct reply {
    size_t length;  /* 0 when it is not whole yet */
    bool refused;
    bool asks;      /* wants `answer` sent back */
};

/* Return the function for a protocol: `redis` (RESP2, no arrays), `nats`, `http` (keep-alive, with Content-Length). */
typedef struct reply (*read_reply)(const char *bytes, size_t length);
read_reply replies_of(const char *protocol);

extern const char replies_answer[];

#endif
