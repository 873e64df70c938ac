/* The physical limit that scripts/bench puts into its table: what the same load costs with nothing between append and socket.

       bare EDGE_PORT APPEND_PORT

   The append port takes the XADD commands of `load` and nothing else of Redis; each message is written at once, with one
   write, to the WebSocket of its user. No route, no stream, no second process, no check of the token, which is the user's
   name here. So whatever writes a message a time cannot be cheaper on the same machine. */

#include <errno.h>
#include <signal.h>
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

enum { READ_BYTES = 1 << 17, USERS_MAX = 20000, WORDS_MAX = 16, FRAME_MAX = 1 << 17 };

struct peer {
    struct watch watch;
    struct buffer in, out;
};

struct word {
    const char *bytes;
    size_t length;
};

static int sockets[USERS_MAX];

static void leave(struct peer *peer) {
    close(peer->watch.fd);
    buffer_free(&peer->in);
    buffer_free(&peer->out);
    free(peer);
}

/* Return whether the peer is still there. */
static int read_more(struct peer *peer) {
    ssize_t got = read(peer->watch.fd, buffer_reserve(&peer->in, READ_BYTES), READ_BYTES);
    if (got < 0 && errno == EAGAIN) return 1;
    if (got <= 0) {
        leave(peer);
        return 0;
    }
    buffer_grew(&peer->in, (size_t)got);
    return 1;
}

/* Return a command's length and its words; 0 when it is not whole yet. */
static size_t parse_command(const char *bytes, size_t length, struct word words[WORDS_MAX], long *count) {
    const char *at = bytes, *end = bytes + length, *newline = memchr(bytes, '\n', length);
    if (newline == NULL) return 0;
    *count = strtol(at + 1, NULL, 10);
    if (*at != '*' || *count < 1 || *count > WORDS_MAX) fail("this is no XADD");
    at = newline + 1;
    for (long word = 0; word < *count; word++) {
        newline = memchr(at, '\n', (size_t)(end - at));
        if (newline == NULL) return 0;
        words[word] = (struct word){newline + 1, strtoul(at + 1, NULL, 10)};
        if ((size_t)(end - newline - 1) < words[word].length + 2) return 0;
        at = newline + 1 + words[word].length + 2;
    }
    return (size_t)(at - bytes);
}

static size_t user_number(const char *text) {
    size_t user = strtoul(text, NULL, 10);
    if (user >= USERS_MAX) fail("no room for user u%zu", user);
    return user;
}

static void write_to(size_t user, const char *bytes, size_t length) {
    /* With a window of messages no socket is ever full; an open loop that fills one asks for more than the limit. */
    if (write(sockets[user], bytes, length) < 0) fail_call("writing to a user");
}

/* XADD stream * to TARGET body BODY …, where the target is `user:uN` or `all` */
static void deliver(const struct word *words) {
    char frame[FRAME_MAX], payload[FRAME_MAX - FRAME_HEADER_MAX];
    int length = snprintf(payload, sizeof payload,
                          "{\"type\":\"message\",\"to\":\"%.*s\",\"id\":\"0-1795360470695-0\",\"ts\":1795360470695,\"body\":%.*s}",
                          (int)words[4].length, words[4].bytes, (int)words[6].length, words[6].bytes);
    size_t header = frame_header(frame, (size_t)length), whole = header + (size_t)length;
    memcpy(frame + header, payload, (size_t)length);
    if (*words[4].bytes == 'u') write_to(user_number(words[4].bytes + strlen("user:u")), frame, whole);
    for (size_t user = 0; *words[4].bytes == 'a' && user < USERS_MAX && sockets[user] > 0; user++) write_to(user, frame, whole);
}

static void append_ready(struct watch *watch, uint32_t events) {
    struct peer *peer = (struct peer *)watch;
    struct word words[WORDS_MAX];
    size_t whole;
    long count;
    (void)events;
    if (!read_more(peer)) return;
    while (buffer_length(&peer->in) > 0
           && (whole = parse_command(buffer_front(&peer->in), buffer_length(&peer->in), words, &count)) != 0) {
        if (count < 7) fail("this is no XADD of ours");
        deliver(words);
        buffer_add_text(&peer->out, "$3\r\n0-1\r\n");
        buffer_take(&peer->in, whole);
    }
    size_t length = buffer_length(&peer->out);
    if (length > 0 && write(watch->fd, buffer_front(&peer->out), length) != (ssize_t)length) fail("replies are not taken");
    buffer_take(&peer->out, length);
}

static void welcome(struct peer *peer) {
    static const char answer[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: pushway.v1\r\n\r\n";
    static const char frame[] = "{\"type\":\"welcome\"}";
    char header[FRAME_HEADER_MAX];
    buffer_add_text(&peer->out, answer);
    buffer_add(&peer->out, header, frame_header(header, sizeof frame - 1));
    buffer_add_text(&peer->out, frame);
    if (write(peer->watch.fd, buffer_front(&peer->out), buffer_length(&peer->out)) < 0) fail_call("welcoming a user");
    buffer_free(&peer->out);
}

static void edge_ready(struct watch *watch, uint32_t events) {
    static const char before_user[] = "Authorization: Bearer u";
    struct peer *peer = (struct peer *)watch;
    (void)events;
    if (!read_more(peer)) return;
    const char *front = buffer_front(&peer->in);
    size_t length = buffer_length(&peer->in);
    if (memmem(front, length, "\r\n\r\n", 4) == NULL) return;
    const char *user = memmem(front, length, before_user, sizeof before_user - 1);
    if (user == NULL) fail("a request without a user");
    sockets[user_number(user + sizeof before_user - 1)] = watch->fd;
    welcome(peer);
    buffer_free(&peer->in);
}

static void take_peers(int listener, void (*ready)(struct watch *, uint32_t)) {
    int fd;
    while ((fd = net_accept(listener)) >= 0) {
        struct peer *peer = calloc(1, sizeof *peer);
        if (peer == NULL) fail("out of memory");
        peer->watch = (struct watch){.fd = fd, .ready = ready};
        loop_watch(&peer->watch, EPOLLIN);
    }
}

static void edge_called(struct watch *watch, uint32_t events) {
    (void)events;
    take_peers(watch->fd, edge_ready);
}

static void append_called(struct watch *watch, uint32_t events) {
    (void)events;
    take_peers(watch->fd, append_ready);
}

int main(int count_of_words, char **words) {
    if (count_of_words != 3) fail("usage: bare EDGE_PORT APPEND_PORT");
    signal(SIGPIPE, SIG_IGN);
    net_allow_many();
    struct watch edge = {.fd = net_listen(atoi(words[1])), .ready = edge_called};
    struct watch append = {.fd = net_listen(atoi(words[2])), .ready = append_called};
    loop_watch(&edge, EPOLLIN);
    loop_watch(&append, EPOLLIN);
    for (;;) loop_turn(-1);
}
