#include "appender.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "buffer.h"
#include "fail.h"
#include "loop.h"
#include "net.h"

enum { READ_BYTES = 1 << 16, BODY_MAX = 1 << 20, NUMBERS_MAX = 64, TARGET_MAX = 32 };

static struct {
    struct watch watch;
    struct buffer out, in;
    char prefix[512], suffix[64];
    char *body;
    size_t body_bytes;
    uint64_t answered, refused;
} appender;

static void add_bulk(struct buffer *buffer, const char *bytes, size_t length) {
    char head[32];
    buffer_add(buffer, head, (size_t)snprintf(head, sizeof head, "$%zu\r\n", length));
    buffer_add(buffer, bytes, length);
    buffer_add(buffer, "\r\n", 2);
}

static void take_error(const char *line, size_t length) {
    if (appender.refused++ == 0) fprintf(stderr, "Redis refuses: %.*s\n", (int)length, line);
}

/* Return the length of the first reply, a bulk string, a status or an error; 0 when it is not whole yet. */
static size_t reply_length(const char *bytes, size_t length) {
    const char *end = memchr(bytes, '\n', length);
    if (end == NULL) return 0;
    size_t whole = (size_t)(end - bytes) + 1;
    if (*bytes == '$') whole += (size_t)strtoul(bytes + 1, NULL, 10) + 2;
    return whole <= length ? whole : 0;
}

static void read_replies(void) {
    ssize_t got = read(appender.watch.fd, buffer_reserve(&appender.in, READ_BYTES), READ_BYTES);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) fail("Redis has closed the connection");
    buffer_grew(&appender.in, (size_t)got);
    size_t whole;
    while ((whole = reply_length(buffer_front(&appender.in), buffer_length(&appender.in))) != 0) {
        appender.answered++;
        if (*buffer_front(&appender.in) == '-') take_error(buffer_front(&appender.in), whole - 2);
        buffer_take(&appender.in, whole);
    }
}

void appender_flush(void) {
    while (buffer_length(&appender.out) > 0) {
        ssize_t taken = write(appender.watch.fd, buffer_front(&appender.out), buffer_length(&appender.out));
        if (taken < 0 && errno == EAGAIN) break;
        if (taken < 0) fail_call("writing to Redis");
        buffer_take(&appender.out, (size_t)taken);
    }
    loop_change(&appender.watch, EPOLLIN | (buffer_length(&appender.out) > 0 ? EPOLLOUT : 0));
}

static void ready(struct watch *watch, uint32_t events) {
    (void)watch;
    if (events & EPOLLOUT) appender_flush();
    if (events & ~(uint32_t)EPOLLOUT) read_replies();
}

static void log_in(const char *password) {
    buffer_add_text(&appender.out, "*2\r\n");
    add_bulk(&appender.out, "AUTH", 4);
    add_bulk(&appender.out, password, strlen(password));
    appender_flush();
    while (appender.answered == 0) loop_turn(1000);
    if (appender.refused) exit(1);
    appender.answered = 0;
}

void appender_open(const char *address, const char *password) {
    appender.watch = (struct watch){.fd = net_connect(address), .ready = ready};
    loop_watch(&appender.watch, EPOLLIN);
    if (*password) log_in(password);
}

void appender_prepare(const char *stream, int transient, size_t body_bytes) {
    if (body_bytes < NUMBERS_MAX + 16 || body_bytes > BODY_MAX) fail("a body has %d to %d bytes", NUMBERS_MAX + 16, BODY_MAX);
    snprintf(appender.prefix, sizeof appender.prefix, "*%d\r\n$4\r\nXADD\r\n$%zu\r\n%s\r\n$1\r\n*\r\n$2\r\nto\r\n",
             transient ? 9 : 7, strlen(stream), stream);
    snprintf(appender.suffix, sizeof appender.suffix, "%s", transient ? "$9\r\ntransient\r\n$1\r\n1\r\n" : "");
    appender.body_bytes = body_bytes;
    appender.body = realloc(appender.body, body_bytes + 1);
    if (appender.body == NULL) fail("out of memory");
    appender.answered = appender.refused = 0;
}

static void fill_body(uint64_t number, uint64_t at_ns) {
    int written = snprintf(appender.body, NUMBERS_MAX + 16, "{\"n\":%llu,\"at\":%llu,\"pad\":\"", (unsigned long long)number,
                           (unsigned long long)at_ns);
    memset(appender.body + written, 'x', appender.body_bytes - (size_t)written - 2);
    memcpy(appender.body + appender.body_bytes - 2, "\"}", 2);
}

void appender_add(size_t user, uint64_t number, uint64_t at_ns) {
    char target[TARGET_MAX];
    size_t length = (size_t)snprintf(target, sizeof target, "user:u%zu", user);
    fill_body(number, at_ns);
    buffer_add_text(&appender.out, appender.prefix);
    add_bulk(&appender.out, target, length);
    add_bulk(&appender.out, "body", 4);
    add_bulk(&appender.out, appender.body, appender.body_bytes);
    buffer_add_text(&appender.out, appender.suffix);
}

size_t appender_waiting(void) { return buffer_length(&appender.out); }

uint64_t appender_answered(void) { return appender.answered; }

uint64_t appender_refused(void) { return appender.refused; }
