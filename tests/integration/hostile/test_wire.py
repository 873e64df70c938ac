"""Every malformed frame of RFC 6455, by section: which close code it calls for, and which we send.

Ours differ from those of section 7.4.1 where a client of ours is to be told whether to come back (docs/protocol.md): 4504 in
the place of 1003 and 1007, 4505 in the place of 1009. What breaks the framing itself is 1002 to everybody.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import pytest

from tests.integration.edges import Edge
from tests.integration.hostile.wire import BINARY, CLOSE, FIN, MASK, PING, PONG, TEXT, Answered, Raw, close, frame, live, text

pytestmark = pytest.mark.anyio

RSV1, RSV2, RSV3 = 0x40, 0x20, 0x10
CONT: Final = 0
PINGED: Final = text(b'{"type":"ping"}')

PROTOCOL_ERROR, BAD_FRAME, TOO_LARGE = 1002, 4504, 4505


class Row(NamedTuple):
    """A breach, by the section whose rule it breaks.

    Attributes:
        section: of RFC 6455.
        what: is wrong.
        sent: bytes, behind the welcome.
        code: of the close frame that RFC 6455 section 7.4.1 has for it.
        ours: the one that is sent.
    """

    section: str
    what: str
    sent: bytes
    code: int
    ours: int


BROKEN: Final = [
    Row("5.1", "text without a mask", frame(FIN | TEXT, b"{}", masked=False), 1002, PROTOCOL_ERROR),
    Row("5.1", "ping without a mask", frame(FIN | PING, b"", masked=False), 1002, PROTOCOL_ERROR),
    Row("5.1", "close without a mask", frame(FIN | CLOSE, b"\x03\xe8", masked=False), 1002, PROTOCOL_ERROR),
    *(
        Row("5.2", f"reserved bit {bit:#x} of opcode {opcode}", frame(FIN | bit | opcode, b""), 1002, PROTOCOL_ERROR)
        for bit in (RSV1, RSV2, RSV3, RSV1 | RSV2 | RSV3)
        for opcode in (CONT, TEXT, BINARY, CLOSE, PING, PONG)
    ),
    *(
        Row("5.2", f"opcode {opcode}", frame(FIN | opcode, b"x"), 1002, PROTOCOL_ERROR)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)
    ),
    Row("5.2", "64 bits of length, the first of them set", bytes((FIN | TEXT, MASK | 127)) + b"\xff" * 8, 1002, TOO_LARGE),
    Row("5.2", "the longest there is", bytes((FIN | TEXT, MASK | 127)) + b"\x7f" + b"\xff" * 7, 1009, TOO_LARGE),
    Row("5.2", "longer than is taken", bytes((FIN | TEXT, MASK | 126)) + struct.pack("!H", 1_001), 1009, TOO_LARGE),
    Row("5.2", "a ping longer than anything", bytes((FIN | PING, MASK | 127)) + b"\x7f" * 8, 1002, TOO_LARGE),
    Row("5.4", "a continuation of nothing", frame(FIN | CONT, b"x"), 1002, PROTOCOL_ERROR),
    Row("5.4", "a continuation of nothing that goes on", frame(CONT, b"x"), 1002, PROTOCOL_ERROR),
    Row(
        "5.4", "a continuation behind the last", frame(TEXT, b"{") + frame(FIN | CONT, b"}") + frame(CONT), 1002, PROTOCOL_ERROR
    ),
    Row("5.4", "a text within a text", frame(TEXT, b'{"type":') + text(b'"ping"}'), 1002, PROTOCOL_ERROR),
    Row("5.4", "a binary within a text", frame(TEXT, b"{") + frame(FIN | BINARY, b"}"), 1002, PROTOCOL_ERROR),
    Row("5.4", "fragments longer than is taken", frame(TEXT, b"x" * 600) + frame(CONT, b"x" * 600), 1009, TOO_LARGE),
    Row("5.4", "the last byte too many", frame(TEXT, b"x" * 1_000) + frame(FIN | CONT, b"x"), 1009, TOO_LARGE),
    *(Row("5.5", f"a fragment of opcode {opcode}", frame(opcode, b""), 1002, PROTOCOL_ERROR) for opcode in (CLOSE, PING, PONG)),
    *(
        Row("5.5", f"126 bytes of opcode {opcode}", frame(FIN | opcode, b"\x03\xe8" + b"x" * 124), 1002, PROTOCOL_ERROR)
        for opcode in (CLOSE, PING, PONG)
    ),
    Row("5.5.1", "half a close code", frame(FIN | CLOSE, b"\x03"), 1002, PROTOCOL_ERROR),
    Row("5.5.1", "a reason that is not UTF-8", close(1000, b"\xff"), 1007, 1007),
    Row("5.5.1", "a reason that is cut", close(1000, b"\xe2\x82"), 1007, 1007),
    *(
        Row("7.4", f"close code {code}", close(code), 1002, PROTOCOL_ERROR)
        for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    ),
    Row("5.6", "binary", frame(FIN | BINARY, b'{"type":"ping"}'), 1003, BAD_FRAME),
    Row("5.6", "binary in fragments", frame(BINARY, b"\0") + frame(FIN | CONT, b"\0"), 1003, BAD_FRAME),
    Row("5.6", "binary of nothing", frame(FIN | BINARY), 1003, BAD_FRAME),
]

_TOPIC: Final = b'{"type":"subscribe","topic":"%b"}'

NOT_UTF_8: Final = {
    "a byte that never occurs": b"\xff",
    "a continuation alone": b"\x80",
    "cut": b"\xe2\x82",
    "overlong": b"\xc0\xaf",
    "overlong by two": b"\xe0\x80\xaf",
    "NUL in two bytes": b"\xc0\x80",
    "half of a pair": b"\xed\xa0\x80",
    "a pair of halves": b"\xed\xa0\xbd\xed\xb8\x80",
    "above Unicode": b"\xf4\x90\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
}


async def _ends(raw: Raw, sent: bytes) -> list[Answered]:
    """Send bytes, answer the edge's close as a client does, and return what it said until the end."""
    await raw.send(sent)
    found: list[Answered] = []
    while (answered := await raw.next()) is not None:
        found.append(answered)
        if answered.opcode == CLOSE:
            await raw.stream.send_eof()
    return found


async def _others_are_served(edge: Edge) -> None:
    async with live(edge, "alice") as raw:
        await raw.send(PINGED)
        assert await raw.next() == Answered(TEXT, b'{"type":"pong"}')


@pytest.mark.parametrize("row", BROKEN, ids=lambda row: f"{row.section} {row.what}")
async def test_a_breach_closes_with_its_code(edge: Edge, row: Row) -> None:
    """The close frame is the last that is said, and nothing behind the breach is obeyed."""
    async with live(edge) as raw:
        *before, last = await _ends(raw, row.sent + PINGED)
    assert (last.opcode, last.code) == (CLOSE, row.ours)
    assert all(b'"pong"' not in answered.payload for answered in before)
    last.payload[2:].decode()
    assert len(last.payload) <= 125
    await _others_are_served(edge)


@pytest.mark.parametrize("bad", NOT_UTF_8.values(), ids=NOT_UTF_8.keys())
@pytest.mark.parametrize("pieces", [1, 2, 99])
async def test_text_that_is_not_utf_8_is_no_frame(edge: Edge, bad: bytes, pieces: int) -> None:
    """Section 8.1, which has 1007 for it: in one frame, in two cut within a sequence, and byte by byte."""
    whole = _TOPIC % bad
    sent = {
        1: [whole],
        2: [whole[: whole.index(bad) + 1], whole[whole.index(bad) + 1 :]],
        99: [whole[at : at + 1] for at in range(len(whole))],
    }[pieces]
    first, *rest = sent
    data = frame(TEXT | (0 if rest else FIN), first)
    data += b"".join(frame(CONT if at + 1 < len(rest) else FIN | CONT, piece) for at, piece in enumerate(rest))
    async with live(edge) as raw:
        *_, error, last = await _ends(raw, data)
    assert b'"bad_frame"' in error.payload
    assert last.code == BAD_FRAME


async def test_a_sequence_cut_between_fragments_is_whole(edge: Edge) -> None:
    """Section 5.4: UTF-8 is that of the message, not of its fragments."""
    whole = _TOPIC % "grüße-👋".encode()
    pieces = [frame(CONT, whole[at : at + 1]) for at in range(1, len(whole) - 1)]
    async with live(edge) as raw:
        await raw.send(frame(TEXT, whole[:1]) + b"".join(pieces) + frame(FIN | CONT, whole[-1:]))
        answered = await raw.next()
        assert answered is not None
        assert "grüße-👋" in answered.payload.decode()  # no token grants it


PONGED: Final = Answered(TEXT, b'{"type":"pong"}')

ODD: Final = {
    "5.2 a length in more bytes than it takes": (frame(FIN | TEXT, b'{"type":"ping"}', form=127), [PONGED]),
    "5.3 a mask of zeros": (bytes((FIN | TEXT, MASK | 15, 0, 0, 0, 0)) + b'{"type":"ping"}', [PONGED]),
    "5.4 fragments of nothing": (
        frame(TEXT) + frame(CONT) * 20 + frame(CONT, b'{"type":"ping"}') + frame(FIN | CONT),
        [PONGED],
    ),
    "5.4 a ping between fragments": (
        frame(TEXT, b'{"type":') + frame(FIN | PING, b"now") + frame(FIN | CONT, b'"ping"}'),
        [Answered(PONG, b"now"), PONGED],
    ),
    "5.5.2 a ping of 125 bytes": (frame(FIN | PING, b"\xff" * 125) + PINGED, [Answered(PONG, b"\xff" * 125), PONGED]),
    "5.5.3 a pong that nobody asked for": (frame(FIN | PONG, b"1") + frame(FIN | PONG) + PINGED, [PONGED]),
}


@pytest.mark.parametrize(("sent", "expected"), ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("at_once", [True, False])
async def test_what_is_odd_and_allowed_is_obeyed(edge: Edge, sent: bytes, expected: list[Answered], *, at_once: bool) -> None:
    """However the bytes are cut by the network. Of a length that could be shorter section 5.2 speaks to who sends it."""
    async with live(edge) as raw:
        for piece in [sent] if at_once else [sent[at : at + 1] for at in range(len(sent))]:
            await raw.send(piece)
        answered = [await raw.next() for _ in expected]
    # A pong and an answer in JSON have no order between them.
    assert sorted(filter(None, answered)) == sorted(expected)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
async def test_a_close_is_echoed_and_nothing_behind_it_is_read(edge: Edge, code: int) -> None:
    """Section 5.5.1, for each code of section 7.4 that may be sent; what follows a close frame is not looked at."""
    async with live(edge) as raw:
        behind = frame(FIN | 3) + PINGED + frame(FIN | PING, b"x") + b"\x00" * 100
        assert await _ends(raw, close(code, "für immer".encode()) + behind) == [
            Answered(CLOSE, struct.pack("!H", code) + "für immer".encode())
        ]


async def test_a_close_without_a_code_is_echoed_without_one(edge: Edge) -> None:
    """Section 7.1.5."""
    async with live(edge) as raw:
        assert await _ends(raw, frame(FIN | CLOSE)) == [Answered(CLOSE, b"")]


@pytest.mark.parametrize(
    "left",
    [b"", b"\x81", b"\x81\xfe", b"\x81\xfe\x00", frame(FIN | TEXT, b"{}")[:-1], frame(TEXT, b"{"), frame(TEXT, b"{") + b"\x80"],
)
async def test_an_end_within_a_frame_is_an_end(edge: Edge, left: bytes) -> None:
    """Section 7.1.1: wherever the stream ends, the session is gone, and its route too."""
    async with live(edge, "trudy") as raw:
        await raw.send(left)
        await raw.stream.send_eof()
        assert all(answered.opcode == CLOSE for answered in await raw.frames())
    await edge.unrouted("trudy")
