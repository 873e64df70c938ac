#include "clients.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "buffer.h"
#include "dialect.h"
#include "fail.h"
#include "frame.h"
#include "loop.h"
#include "net.h"
#include "stamp.h"

enum { READ_BYTES = 1 << 18, GREETING_MAX = 512, CONNECT_TIMEOUT_S = 180 };

enum stage { UPGRADING, WELCOMING, OPEN, CLOSED };

struct client {
    struct watch watch;
    enum stage stage;
    bool greeted;
    struct buffer rest;  /* the beginning of a frame whose end has not come; empty for a quiet connection */
    struct receiver receiver;
};

struct audience audience;

static struct client *clients;
static const struct seats *seats;
static char scratch[READ_BYTES];

struct receiver *client_receiver(size_t user) { return &clients[user].receiver; }

static size_t user_of(const struct client *client) { return (size_t)(client - clients); }

static void end(struct client *client, const char *why) {
    fprintf(stderr, "u%zu: %s\n", user_of(client), why);
    audience.open -= client->stage == OPEN;
    audience.closed++;
    client->stage = CLOSED;
    buffer_free(&client->rest);
    close(client->watch.fd);
}

static void take_stamp(struct client *client, struct stamp stamp) {
    if (!receiver_take(&client->receiver, stamp.number, &audience.faults)) return;
    latency_note(&audience.latency, now_ns() - stamp.at_ns);
    audience.received++;
    if (audience.on_message != NULL) audience.on_message(user_of(client), stamp.number);
}

/* A frame may hold several messages, where a system joins them; nothing of it but the stamps is looked at. */
static void take_messages(struct client *client, const struct frame *frame) {
    struct stamp stamp;
    for (const char *at = frame->payload, *last = at + frame->length; stamp_next(&at, last, &stamp);) take_stamp(client, stamp);
}

static void answer(struct client *client, unsigned opcode, const char *payload, size_t length) {
    char frame[FRAME_HEADER_MAX + FRAME_MASK_BYTES + GREETING_MAX];
    if (length > GREETING_MAX) fail("a client sends %d bytes at most", GREETING_MAX);
    size_t whole = frame_of_client(frame, opcode, payload, length);
    if (write(client->watch.fd, frame, whole) != (ssize_t)whole) end(client, "takes no answer");
}

static void greet(struct client *client) {
    struct buffer greeting = {0};
    if (client->greeted) return;
    client->greeted = true;
    dialect_fill(&greeting, dialect.greeting, "", seats->tokens[user_of(client)], "");
    if (buffer_length(&greeting) > 0) answer(client, OPCODE_TEXT, buffer_front(&greeting), buffer_length(&greeting));
    buffer_free(&greeting);
}

static void let_in(struct client *client) {
    client->stage = OPEN;
    audience.open++;
}

static void take_welcome(struct client *client, const struct frame *frame) {
    greet(client);
    if (client->stage == WELCOMING && dialect_begins(frame, dialect.welcome)) let_in(client);
}

static void take_close(struct client *client, const struct frame *frame) {
    char why[160];
    const unsigned char *code = (const unsigned char *)frame->payload;
    int reason_bytes = frame->length > 2 ? (int)frame->length - 2 : 0;
    snprintf(why, sizeof why, "closed with %d %.*s", frame->length < 2 ? 0 : code[0] << 8 | code[1], reason_bytes,
             frame->payload + 2);
    end(client, why);
}

static void take_frame(struct client *client, const struct frame *frame) {
    if (frame->opcode == OPCODE_PING) answer(client, OPCODE_PONG, frame->payload, frame->length);
    else if (frame->opcode == OPCODE_CLOSE) take_close(client, frame);
    else if (frame->opcode != OPCODE_TEXT && frame->opcode != OPCODE_BINARY) return;
    else if (dialect_is(frame, dialect.ping)) answer(client, OPCODE_TEXT, dialect.pong.bytes, dialect.pong.length);
    else if (client->stage == WELCOMING) take_welcome(client, frame);
    else take_messages(client, frame);
}

/* Return the length of the answer to the upgrade, 0 when it is not whole yet. */
static size_t take_answer(struct client *client, const char *bytes, size_t length) {
    const char *blank = memmem(bytes, length, "\r\n\r\n", 4);
    if (blank == NULL) return 0;
    if (length < 12 || memcmp(bytes + 9, "101", 3) != 0) fail("no upgrade: %.*s", (int)(blank - bytes), bytes);
    client->stage = WELCOMING;
    if (dialect.welcome.length == 0) let_in(client);
    return (size_t)(blank - bytes) + 4;
}

/* Return how many of the bytes were understood. */
static size_t take_bytes(struct client *client, const char *bytes, size_t length) {
    size_t taken = 0, whole;
    struct frame frame;
    if (client->stage == UPGRADING && (taken = take_answer(client, bytes, length)) == 0) return 0;
    while (client->stage != CLOSED && (whole = frame_parse(bytes + taken, length - taken, &frame)) != 0) {
        taken += whole;
        take_frame(client, &frame);
    }
    return taken;
}

static void ready(struct watch *watch, uint32_t events) {
    struct client *client = (struct client *)watch;  /* its first member */
    size_t before = buffer_length(&client->rest);
    (void)events;
    if (before > 0) memcpy(scratch, buffer_front(&client->rest), before);
    ssize_t got = read(watch->fd, scratch + before, READ_BYTES - before);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        end(client, "cut off");
        return;
    }
    size_t length = before + (size_t)got, taken = take_bytes(client, scratch, length);
    if (client->stage == CLOSED) return;
    buffer_free(&client->rest);
    if (taken < length) buffer_add(&client->rest, scratch + taken, length - taken);
}

static void ask(struct client *client) {
    struct buffer request = {0};
    size_t user = user_of(client);
    dialect_fill(&request, dialect.request, seats->edges[user % seats->edge_count], seats->tokens[user], seats->query);
    size_t length = buffer_length(&request);
    if (write(client->watch.fd, buffer_front(&request), length) != (ssize_t)length) fail_call("asking for an upgrade");
    buffer_free(&request);
}

static void open_one(size_t user) {
    struct client *client = &clients[user];
    *client = (struct client){.watch = {.fd = net_connect(seats->edges[user % seats->edge_count]), .ready = ready},
                              .receiver = {.next = 1, .sent = seats->owed}};
    loop_watch(&client->watch, EPOLLIN);
    ask(client);
}

void clients_connect(size_t count, size_t at_once, const struct seats *given) {
    size_t first = audience.count, last = first + count;
    uint64_t give_up_ns = now_ns() + CONNECT_TIMEOUT_S * 1000000000ull;
    if (first > 0) fail("this audience is seated already");  /* what `clients` points to is watched, and must not move */
    seats = given;
    clients = calloc(last, sizeof *clients);
    if (clients == NULL) fail("out of memory");
    while (audience.open < last) {
        for (; audience.count < last && audience.count - audience.open < at_once; audience.count++)
            open_one(audience.count);
        loop_turn(1000);
        if (audience.closed > 0) fail("a connection was refused");
        if (now_ns() > give_up_ns) fail("%zu of %zu connections were welcome within %d s", audience.open, last, CONNECT_TIMEOUT_S);
    }
}

uint64_t clients_missing(void) {
    uint64_t missing = 0;
    for (size_t user = 0; user < audience.count; user++) missing += receiver_missing(&clients[user].receiver);
    return missing;
}

void clients_settle(void) {
    for (size_t user = 0; user < audience.count; user++) receiver_settle(&clients[user].receiver, &audience.faults);
}

void clients_align(void) {
    uint64_t highest = 0;
    for (size_t user = 0; user < audience.count; user++)
        if (clients[user].receiver.sent > highest) highest = clients[user].receiver.sent;
    for (size_t user = 0; user < audience.count; user++) {
        clients[user].receiver.sent = highest;
        clients[user].receiver.next = highest + 1;
    }
}

void clients_forget(void) {
    audience.received = 0;
    audience.faults = (struct faults){0};
    audience.latency = (struct latency){0};
}
