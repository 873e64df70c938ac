#include "stamp.h"

#include <stdlib.h>
#include <string.h>

#include "text.h"

enum { BEGIN_LENGTH = 3, NUMBER_DIGITS = 10, MIDDLE_LENGTH = 4, TIME_DIGITS = 20 };

enum { NUMBER_AT = BEGIN_LENGTH, TIME_AT = NUMBER_AT + NUMBER_DIGITS + MIDDLE_LENGTH, STAMP_LENGTH = TIME_AT + TIME_DIGITS + 1 };

char *stamp_find(const char *bytes, size_t length) {
    char *found = memmem(bytes, length, "#n=", BEGIN_LENGTH);
    return found != NULL && (size_t)(bytes + length - found) >= STAMP_LENGTH ? found : NULL;
}

void stamp_write(char *place, struct stamp stamp) {
    text_digits(place + NUMBER_AT, NUMBER_DIGITS, stamp.number);
    text_digits(place + TIME_AT, TIME_DIGITS, stamp.at_ns);
}

bool stamp_next(const char **rest, const char *end, struct stamp *stamp) {
    const char *found = stamp_find(*rest, (size_t)(end - *rest));
    if (found == NULL) return false;
    stamp->number = strtoull(found + NUMBER_AT, NULL, 10);
    stamp->at_ns = strtoull(found + TIME_AT, NULL, 10);
    *rest = found + STAMP_LENGTH;
    return true;
}
