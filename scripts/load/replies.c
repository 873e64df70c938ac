#include "replies.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"

const char replies_answer[] = "PONG\r\n";

static size_t line_length(const char *bytes, size_t length) {
    const char *end = memchr(bytes, '\n', length);
    return end == NULL ? 0 : (size_t)(end - bytes) + 1;
}

static struct reply redis_reply(const char *bytes, size_t length) {
    size_t whole = line_length(bytes, length);
    if (whole > 0 && *bytes == '$') whole += (size_t)strtoul(bytes + 1, NULL, 10) + 2;
    return (struct reply){.length = whole <= length ? whole : 0, .refused = *bytes == '-'};
}

/* https://docs.nats.io/reference/reference-protocols/nats-protocol: who does not answer a PING is cut off. */
static struct reply nats_reply(const char *bytes, size_t length) {
    size_t whole = line_length(bytes, length);
    return (struct reply){.length = whole, .refused = *bytes == '-', .asks = whole > 1 && memcmp(bytes, "PI", 2) == 0};
}

static struct reply http_reply(const char *bytes, size_t length) {
    static const char field[] = "Content-Length:";
    const char *blank = memmem(bytes, length, "\r\n\r\n", 4);
    if (blank == NULL) return (struct reply){0};
    size_t head = (size_t)(blank - bytes) + 4;
    const char *size = memmem(bytes, head, field, sizeof field - 1);
    size_t whole = head + (size == NULL ? 0 : (size_t)strtoul(size + sizeof field - 1, NULL, 10));
    return (struct reply){.length = whole <= length ? whole : 0, .refused = head < 12 || bytes[9] != '2'};
}

read_reply replies_of(const char *protocol) {
    if (strcmp(protocol, "redis") == 0) return redis_reply;
    if (strcmp(protocol, "nats") == 0) return nats_reply;
    if (strcmp(protocol, "http") == 0) return http_reply;
    fail("no protocol: %s", protocol);
}
