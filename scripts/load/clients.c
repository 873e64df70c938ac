#include "clients.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "buffer.h"
#include "fail.h"
#include "frame.h"
#include "loop.h"
#include "net.h"

enum { READ_BYTES = 1 << 18, REQUEST_MAX = 16384, CONNECT_TIMEOUT_S = 60 };

enum stage { UPGRADING, WELCOMING, OPEN, CLOSED };

struct client {
    struct watch watch;
    enum stage stage;
    struct buffer rest;  /* the beginning of a frame whose end has not come; empty for a quiet connection */
    struct receiver receiver;
};

struct audience audience;

static struct client *clients;
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

/* The edge's own numbers stand before the body, so the search begins at it; nothing else of the frame is looked at. */
static bool read_body(const struct frame *frame, uint64_t *number, uint64_t *at_ns) {
    static const char begin[] = "\"body\":{\"n\":", then[] = ",\"at\":";
    const char *body = memmem(frame->payload, frame->length, begin, sizeof begin - 1);
    if (body == NULL) return false;
    char *end_of_number;
    *number = strtoull(body + sizeof begin - 1, &end_of_number, 10);
    *at_ns = strtoull(end_of_number + sizeof then - 1, NULL, 10);
    return true;
}

static void take_message(struct client *client, const struct frame *frame) {
    uint64_t number, at_ns;
    if (!read_body(frame, &number, &at_ns)) return;
    if (!receiver_take(&client->receiver, number, &audience.faults)) return;
    latency_note(&audience.latency, now_ns() - at_ns);
    audience.received++;
    if (audience.on_message != NULL) audience.on_message(user_of(client));
}

static void take_welcome(struct client *client, const struct frame *frame) {
    static const char begin[] = "{\"type\":\"welcome\"";
    if (frame->length < sizeof begin || memcmp(frame->payload, begin, sizeof begin - 1) != 0) return;
    client->stage = OPEN;
    audience.open++;
}

static void answer_ping(struct client *client, const struct frame *ping) {
    char pong[6 + CONTROL_PAYLOAD_MAX];
    size_t length = frame_pong(pong, ping);
    if (write(client->watch.fd, pong, length) != (ssize_t)length) end(client, "takes no pong");
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
    if (frame->opcode == OPCODE_PING) answer_ping(client, frame);
    else if (frame->opcode == OPCODE_CLOSE) take_close(client, frame);
    else if (frame->opcode != OPCODE_TEXT) return;
    else if (client->stage == WELCOMING) take_welcome(client, frame);
    else take_message(client, frame);
}

/* Return the length of the answer to the upgrade, 0 when it is not whole yet. */
static size_t take_answer(struct client *client, const char *bytes, size_t length) {
    const char *blank = memmem(bytes, length, "\r\n\r\n", 4);
    if (blank == NULL) return 0;
    if (length < 12 || memcmp(bytes + 9, "101", 3) != 0) fail("no upgrade: %.*s", (int)(blank - bytes), bytes);
    client->stage = WELCOMING;
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

static void ask(struct client *client, const char *edge, const char *token, const char *query) {
    char request[REQUEST_MAX];
    /* The key may be the same for all: it only proves to a client that the server has understood (RFC 6455, section 1.3). */
    int length = snprintf(request, sizeof request,
                          "GET /v1/connect%s%s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Protocol: pushway.v1\r\nAuthorization: Bearer %s\r\n\r\n",
                          *query ? "?" : "", query, edge, token);
    if (length >= REQUEST_MAX) fail("the token is too long");
    if (write(client->watch.fd, request, (size_t)length) != length) fail_call("asking for an upgrade");
}

static void open_one(struct client *client, const char *edge, const char *token, const char *query, uint64_t owed) {
    *client = (struct client){.watch = {.fd = net_connect(edge), .ready = ready}, .receiver = {.next = 1, .sent = owed}};
    loop_watch(&client->watch, EPOLLIN);
    ask(client, edge, token, query);
}

void clients_connect(size_t count, size_t at_once, char *const *edges, size_t edge_count, char *const *tokens,
                     const char *query, uint64_t owed) {
    size_t first = audience.count, last = first + count;
    uint64_t give_up_ns = now_ns() + CONNECT_TIMEOUT_S * 1000000000ull;
    if (first > 0) fail("this audience is seated already");  /* what `clients` points to is watched, and must not move */
    clients = calloc(last, sizeof *clients);
    if (clients == NULL) fail("out of memory");
    while (audience.open < last) {
        for (; audience.count < last && audience.count - audience.open < at_once; audience.count++)
            open_one(&clients[audience.count], edges[audience.count % edge_count], tokens[audience.count], query, owed);
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

void clients_forget(void) {
    audience.received = 0;
    audience.faults = (struct faults){0};
    audience.latency = (struct latency){0};
}
