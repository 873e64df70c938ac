/* How a system is spoken to: what a client sends to be let in, and how it knows that it is.

   A dialect is a folder of raw files, written by tests/bench/dialect.py. In `request` and `greeting`, {host}, {token} and {query}
   stand for what belongs to a connection.

       request    the whole HTTP request that asks for the upgrade
       greeting   a payload that answers the server's first frame; none where there is nothing to say
       welcome    what the frame begins with that lets a client in; none where the upgrade does
       ping, pong payloads of the system's own liveness, where it does not use WebSocket's
       hello      what a producer sends first, and waits for an answer to */

#ifndef DIALECT_H
#define DIALECT_H

#include "buffer.h"
#include "frame.h"
#include "text.h"

struct dialect {
    struct text request, greeting, welcome, ping, pong, hello;
};

extern struct dialect dialect;

void dialect_read(const char *folder);

/* Add a text with what belongs to a connection in the places that ask for it. */
void dialect_fill(struct buffer *out, struct text text, const char *host, const char *token, const char *query);

bool dialect_begins(const struct frame *frame, struct text with);
bool dialect_is(const struct frame *frame, struct text text);

#endif
