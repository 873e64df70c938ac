#include "dialect.h"

#include <string.h>

struct dialect dialect;

void dialect_read(const char *folder) {
    dialect = (struct dialect){
        .request = text_read_if(folder, "request"),
        .greeting = text_read_if(folder, "greeting"),
        .welcome = text_read_if(folder, "welcome"),
        .ping = text_read_if(folder, "ping"),
        .pong = text_read_if(folder, "pong"),
        .hello = text_read_if(folder, "hello"),
    };
}

void dialect_fill(struct buffer *out, struct text text, const char *host, const char *token, const char *query) {
    const struct {
        const char *name, *value;
    } fields[] = {{"{host}", host}, {"{token}", token}, {"{query}", query}};
    for (const char *at = text.bytes, *end = at + text.length; at < end;) {
        size_t taken = 0;
        for (size_t field = 0; field < 3 && taken == 0; field++) {
            if (strncmp(at, fields[field].name, strlen(fields[field].name)) != 0) continue;
            buffer_add_text(out, fields[field].value);
            taken = strlen(fields[field].name);
        }
        if (taken == 0) buffer_add(out, at, taken = 1);
        at += taken;
    }
}

bool dialect_begins(const struct frame *frame, struct text with) {
    return frame->length >= with.length && memcmp(frame->payload, with.bytes, with.length) == 0;
}

bool dialect_is(const struct frame *frame, struct text text) {
    return text.length > 0 && frame->length == text.length && dialect_begins(frame, text);
}
