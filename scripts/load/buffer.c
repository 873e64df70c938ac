#include "buffer.h"

#include <stdlib.h>
#include <string.h>

#include "fail.h"

size_t buffer_length(const struct buffer *buffer) { return buffer->end - buffer->begin; }

const char *buffer_front(const struct buffer *buffer) { return buffer->bytes + buffer->begin; }

static void move_to_front(struct buffer *buffer) {
    if (buffer->begin == 0) return;
    memmove(buffer->bytes, buffer->bytes + buffer->begin, buffer_length(buffer));
    buffer->end -= buffer->begin;
    buffer->begin = 0;
}

char *buffer_reserve(struct buffer *buffer, size_t more) {
    if (buffer->room - buffer->end < more) move_to_front(buffer);
    if (buffer->room - buffer->end < more) {
        buffer->room = 2 * (buffer->end + more);
        buffer->bytes = realloc(buffer->bytes, buffer->room);
        if (buffer->bytes == NULL) fail("out of memory");
    }
    return buffer->bytes + buffer->end;
}

void buffer_grew(struct buffer *buffer, size_t by) { buffer->end += by; }

void buffer_add(struct buffer *buffer, const char *bytes, size_t length) {
    memcpy(buffer_reserve(buffer, length), bytes, length);
    buffer_grew(buffer, length);
}

void buffer_add_text(struct buffer *buffer, const char *text) { buffer_add(buffer, text, strlen(text)); }

void buffer_take(struct buffer *buffer, size_t length) {
    buffer->begin += length;
    if (buffer->begin == buffer->end) buffer->begin = buffer->end = 0;
}

void buffer_free(struct buffer *buffer) {
    free(buffer->bytes);
    *buffer = (struct buffer){0};
}
