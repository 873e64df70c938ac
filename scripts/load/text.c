#include "text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fail.h"

struct text text_read(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) < 0) fail_call(path);
    struct text text = {.length = (size_t)ftell(file)};
    rewind(file);
    text.bytes = malloc(text.length + 1);
    if (text.bytes == NULL) fail("out of memory");
    if (fread(text.bytes, 1, text.length, file) != text.length) fail_call(path);
    text.bytes[text.length] = '\0';
    fclose(file);
    return text;
}

struct text text_read_if(const char *folder, const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0 ? text_read(path) : (struct text){.bytes = ""};
}

void text_digits(char *field, size_t width, unsigned long long value) {
    while (width > 0) {
        field[--width] = (char)('0' + value % 10);
        value /= 10;
    }
}
