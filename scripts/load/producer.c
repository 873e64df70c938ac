#include "producer.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "buffer.h"
#include "dialect.h"
#include "fail.h"
#include "loop.h"
#include "net.h"
#include "replies.h"

enum { READ_BYTES = 1 << 16, USER_LENGTH = 8, USER_PLACES_MAX = 4 };

static const char USER[] = "u0000000";

struct line {
    struct watch watch;
    struct buffer out, in;
};

struct publication {
    struct text text;
    size_t users[USER_PLACES_MAX], user_count, stamp;
};

static struct {
    struct line lines[PRODUCER_LINES_MAX];
    size_t line_count, publication_count;
    struct publication publications[PUBLICATIONS_MAX];
    read_reply read_reply;
    uint64_t answered, refused;
} producer;

static void flush(struct line *line) {
    while (buffer_length(&line->out) > 0) {
        ssize_t taken = write(line->watch.fd, buffer_front(&line->out), buffer_length(&line->out));
        if (taken < 0 && errno == EAGAIN) break;
        if (taken < 0) fail_call("publishing");
        buffer_take(&line->out, (size_t)taken);
    }
    loop_change(&line->watch, EPOLLIN | (buffer_length(&line->out) > 0 ? EPOLLOUT : 0));
}

static void take_reply(struct line *line, struct reply reply) {
    const char *bytes = buffer_front(&line->in);
    producer.answered++;
    if (reply.refused && producer.refused++ == 0) fprintf(stderr, "refused: %.*s\n", (int)reply.length, bytes);
    if (reply.asks) buffer_add_text(&line->out, replies_answer);
    buffer_take(&line->in, reply.length);
}

static void read_replies(struct line *line) {
    ssize_t got = read(line->watch.fd, buffer_reserve(&line->in, READ_BYTES), READ_BYTES);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) fail("who takes publications has closed the connection");
    buffer_grew(&line->in, (size_t)got);
    struct reply reply;
    while (buffer_length(&line->in) > 0
           && (reply = producer.read_reply(buffer_front(&line->in), buffer_length(&line->in))).length != 0)
        take_reply(line, reply);
}

static void ready(struct watch *watch, uint32_t events) {
    struct line *line = (struct line *)watch;  /* its first member */
    if (events & EPOLLOUT) flush(line);
    if (events & ~(uint32_t)EPOLLOUT) read_replies(line);
}

static void say_hello(struct line *line) {
    uint64_t answered = producer.answered;
    if (dialect.hello.length == 0) return;
    buffer_add(&line->out, dialect.hello.bytes, dialect.hello.length);
    flush(line);
    while (producer.answered == answered) loop_turn(1000);
    if (producer.refused > 0) exit(1);
}

void producer_open(const char *address, const char *protocol, size_t lines) {
    if (lines == 0 || lines > PRODUCER_LINES_MAX) fail("1 to %d connections", PRODUCER_LINES_MAX);
    producer.read_reply = replies_of(protocol);
    for (; producer.line_count < lines; producer.line_count++) {
        struct line *line = &producer.lines[producer.line_count];
        line->watch = (struct watch){.fd = net_connect(address), .ready = ready};
        loop_watch(&line->watch, EPOLLIN);
        say_hello(line);
    }
}

static void prepare(struct publication *publication, const char *path) {
    free(publication->text.bytes);
    *publication = (struct publication){.text = text_read(path)};
    char *bytes = publication->text.bytes, *end = bytes + publication->text.length;
    char *stamp = stamp_find(bytes, publication->text.length), *at = bytes;
    if (stamp == NULL) fail("%s has no stamp", path);
    publication->stamp = (size_t)(stamp - bytes);
    while ((at = memmem(at, (size_t)(end - at), USER, USER_LENGTH)) != NULL && publication->user_count < USER_PLACES_MAX) {
        publication->users[publication->user_count++] = (size_t)(++at - bytes);
    }
}

void producer_prepare(const char *path, size_t count) {
    char one[PATH_MAX];
    if (count == 0 || count > PUBLICATIONS_MAX) fail("1 to %d publications", PUBLICATIONS_MAX);
    for (size_t number = 0; number < count; number++) {
        snprintf(one, sizeof one, "%s.%zu", path, number);
        prepare(&producer.publications[number], one);
    }
    producer.publication_count = count;
    producer.refused = 0;
}

void producer_add(size_t user, size_t publication, struct stamp stamp) {
    struct line *line = &producer.lines[user % producer.line_count];
    if (publication >= producer.publication_count) fail("there are %zu publications", producer.publication_count);
    const struct publication *chosen = &producer.publications[publication];
    char *message = buffer_reserve(&line->out, chosen->text.length);
    memcpy(message, chosen->text.bytes, chosen->text.length);
    for (size_t place = 0; place < chosen->user_count; place++)
        text_digits(message + chosen->users[place], USER_LENGTH - 1, user);
    stamp_write(message + chosen->stamp, stamp);
    buffer_grew(&line->out, chosen->text.length);
}

void producer_flush(void) {
    for (size_t number = 0; number < producer.line_count; number++) flush(&producer.lines[number]);
}

size_t producer_waiting(void) {
    size_t waiting = 0;
    for (size_t number = 0; number < producer.line_count; number++) waiting += buffer_length(&producer.lines[number].out);
    return waiting;
}

uint64_t producer_refused(void) { return producer.refused; }
