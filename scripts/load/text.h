/* Bytes read whole from a file, and the places in them that change. */

#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>

struct text {
    char *bytes;
    size_t length;
};

/* Return what a file holds; ends the program where there is none. */
struct text text_read(const char *path);

/* The same of a file in a folder; nothing where there is none. */
struct text text_read_if(const char *folder, const char *name);

/* Write `value` as decimal digits into a field, with zeros in front: what is sent keeps its length whatever it says. */
void text_digits(char *field, size_t width, unsigned long long value);

#endif
