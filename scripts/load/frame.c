#include "frame.h"

#include <stdint.h>
#include <string.h>

#include "fail.h"

enum { FIN = 0x80, MASKED = 0x80, LENGTH_16 = 126, LENGTH_64 = 127 };

static uint64_t big_endian(const unsigned char *bytes, unsigned count) {
    uint64_t value = 0;
    for (unsigned at = 0; at < count; at++) value = value << 8 | bytes[at];
    return value;
}

size_t frame_parse(const char *bytes, size_t length, struct frame *frame) {
    const unsigned char *head = (const unsigned char *)bytes;
    if (length < 2) return 0;
    if (!(head[0] & FIN) || head[1] & MASKED) fail("the server sent a frame that is divided or masked");
    unsigned extra = head[1] == LENGTH_16 ? 2 : head[1] == LENGTH_64 ? 8 : 0;
    if (length < 2 + extra) return 0;
    uint64_t payload = extra ? big_endian(head + 2, extra) : head[1];
    if (length - 2 - extra < payload) return 0;
    *frame = (struct frame){.opcode = head[0] & 0x0F, .payload = bytes + 2 + extra, .length = (size_t)payload};
    return 2 + extra + (size_t)payload;
}

size_t frame_header(char header[FRAME_HEADER_MAX], size_t payload_length) {
    unsigned extra = payload_length < LENGTH_16 ? 0 : payload_length <= UINT16_MAX ? 2 : 8;
    header[0] = (char)(FIN | OPCODE_TEXT);
    header[1] = (char)(extra == 0 ? payload_length : extra == 2 ? LENGTH_16 : LENGTH_64);
    for (unsigned at = 0; at < extra; at++) header[2 + at] = (char)(payload_length >> 8 * (extra - 1 - at));
    return 2 + extra;
}

size_t frame_pong(char pong[6 + CONTROL_PAYLOAD_MAX], const struct frame *ping) {
    if (ping->length > CONTROL_PAYLOAD_MAX) fail("the server sent a ping of %zu bytes", ping->length);
    pong[0] = (char)(FIN | OPCODE_PONG);
    pong[1] = (char)(MASKED | ping->length);
    memset(pong + 2, 0, 4);
    memcpy(pong + 6, ping->payload, ping->length);
    return 6 + ping->length;
}
