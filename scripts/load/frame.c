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

static size_t write_header(char *header, unsigned opcode, unsigned masked, size_t payload_length) {
    unsigned extra = payload_length < LENGTH_16 ? 0 : payload_length <= UINT16_MAX ? 2 : 8;
    header[0] = (char)(FIN | opcode);
    header[1] = (char)(masked | (extra == 0 ? payload_length : extra == 2 ? LENGTH_16 : LENGTH_64));
    for (unsigned at = 0; at < extra; at++) header[2 + at] = (char)(payload_length >> 8 * (extra - 1 - at));
    return 2 + extra;
}

size_t frame_header(char header[FRAME_HEADER_MAX], size_t payload_length) {
    return write_header(header, OPCODE_TEXT, 0, payload_length);
}

size_t frame_of_client(char *frame, unsigned opcode, const char *payload, size_t length) {
    size_t header = write_header(frame, opcode, MASKED, length);
    memset(frame + header, 0, FRAME_MASK_BYTES);
    memcpy(frame + header + FRAME_MASK_BYTES, payload, length);
    return header + FRAME_MASK_BYTES + length;
}
