/* The producer: publications pipelined to whatever takes them, on one connection or several.

   A publication is prepared whole (tests/bench/dialect.py): a file of the very bytes that are sent, with the user u0000000 and
   an empty stamp. Only their digits are written for each message, so every system costs the generator the same. */

#ifndef PRODUCER_H
#define PRODUCER_H

#include <stddef.h>
#include <stdint.h>

#include "stamp.h"

enum { PRODUCER_LINES_MAX = 64, PUBLICATIONS_MAX = 64 };

/* Connect to `HOST:PORT` or to the path of a unix socket, so many times, and say the dialect's hello.

   `protocol` names how replies look (replies.h). Messages of one user always go down the same connection, in order. */
void producer_open(const char *address, const char *protocol, size_t lines);

/* Take the publications PATH.0, PATH.1 … for all messages from now on. */
void producer_prepare(const char *path, size_t count);

/* Queue one message for a user, by one of the publications. */
void producer_add(size_t user, size_t publication, struct stamp stamp);

/* Write what is queued, as far as the sockets take it; the loop writes the rest. */
void producer_flush(void);

/* Bytes queued and not yet taken: where they pile up, the system is slower than the messages are made. */
size_t producer_waiting(void);

/* How many publications have been answered with an error; the first is printed at once. */
uint64_t producer_refused(void);

#endif
