/* What the generator finds its messages again by: a mark in the body, with a number for each receiver and the time of sending.

       #n=0000000001;at=00000000035123456789;

   Its length is always the same, and no encoding escapes any of it: so a publication can be prepared whole, whatever it is
   packed in, and only digits change. */

#ifndef STAMP_H
#define STAMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stamp {
    uint64_t number, at_ns;
};

/* Return where the first stamp is in these bytes; NULL when there is none. */
char *stamp_find(const char *bytes, size_t length);

void stamp_write(char *place, struct stamp stamp);

/* Take the next stamp of a payload that may hold several; `rest` is moved behind it. */
bool stamp_next(const char **rest, const char *end, struct stamp *stamp);

#endif
