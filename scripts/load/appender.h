/* The producer: XADD, pipelined on one connection to Redis (https://redis.io/docs/latest/commands/xadd/). */

#ifndef APPENDER_H
#define APPENDER_H

#include <stddef.h>
#include <stdint.h>

/* Connect to `HOST:PORT` or to the path of a unix socket, and log in where a password is given. */
void appender_open(const char *address, const char *password);

/* Say what all messages from now on have in common: the stream, whether they have the field `transient`, the body's size. */
void appender_prepare(const char *stream, int transient, size_t body_bytes);

/* Queue one message for the user `u<user>`; its body holds the number and the time of sending (`now_ns`). */
void appender_add(size_t user, uint64_t number, uint64_t at_ns);

/* Write what is queued, as far as the socket takes it; the loop writes the rest. */
void appender_flush(void);

/* Bytes queued and not yet taken by the socket: where they pile up, Redis is slower than the messages are made. */
size_t appender_waiting(void);

/* How many messages have been answered, and how many of them with an error; the last error is printed at once. */
uint64_t appender_answered(void);
uint64_t appender_refused(void);

#endif
