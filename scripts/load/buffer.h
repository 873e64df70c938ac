/* Bytes that wait to be written or parsed: added at the end, taken from the front. It grows as needed and never shrinks;
   who fills it is the one to bound it. */

#ifndef BUFFER_H
#define BUFFER_H

#include <stddef.h>

struct buffer {
    char *bytes;
    size_t begin, end, room;
};

/* Return where the next `more` bytes may be written; `buffer_grew` says how many of them were. */
char *buffer_reserve(struct buffer *buffer, size_t more);
void buffer_grew(struct buffer *buffer, size_t by);
void buffer_add(struct buffer *buffer, const char *bytes, size_t length);
void buffer_add_text(struct buffer *buffer, const char *text);

const char *buffer_front(const struct buffer *buffer);
size_t buffer_length(const struct buffer *buffer);
void buffer_take(struct buffer *buffer, size_t length);
void buffer_free(struct buffer *buffer);

#endif
