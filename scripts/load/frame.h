/* WebSocket frames as a client sees them: the server's are unmasked, its own are masked (RFC 6455, sections 5.2 and 5.3). */

#ifndef FRAME_H
#define FRAME_H

#include <stdbool.h>
#include <stddef.h>

enum opcode { OPCODE_TEXT = 0x1, OPCODE_BINARY = 0x2, OPCODE_CLOSE = 0x8, OPCODE_PING = 0x9, OPCODE_PONG = 0xA };

enum { FRAME_HEADER_MAX = 10, FRAME_MASK_BYTES = 4 };

struct frame {
    unsigned opcode;
    const char *payload;
    size_t length;
};

/* Return how many bytes the first frame takes; 0 when it is not whole yet. Ends the program at a masked or divided one. */
size_t frame_parse(const char *bytes, size_t length, struct frame *frame);

/* Write the header of an unmasked text frame and return its length. */
size_t frame_header(char header[FRAME_HEADER_MAX], size_t payload_length);

/* Write a client's frame, masked with zeros, which RFC 6455 forbids only for the sake of proxies; return its length. There is
   room for header, mask and payload. */
size_t frame_of_client(char *frame, unsigned opcode, const char *payload, size_t length);

#endif
