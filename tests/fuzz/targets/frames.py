"""Frames of a client: RFC 6455 as a model of its own, websockets by itself, and any cut into reads.

The model reads all bytes at once, and knows nothing of parsers that wait. What is in the input behind the first byte, which
chooses the cuts, comes behind a good handshake.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from websockets.frames import Frame, Opcode
from websockets.protocol import SEND_EOF, State
from websockets.server import ServerProtocol

from edge.closes import Close
from edge.upgrade import PATH
from tests.fuzz.inputs import cut
from tests.fuzz.lone_edge import FRAME_MAX_BYTES, Lone

_HEAD_MAX_BYTES: Final = 14
_CONTROL_MAX_BYTES: Final = 125
_PROTOCOL_ERROR: Final = 1002
_INVALID_DATA: Final = 1007
_TOO_BIG: Final = 1009
_TOO_LARGE: Final = Close.TOO_LARGE.code

_REQUEST: Final = (
    f"GET {PATH} HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
).encode()


def _frame(first: int, payload: bytes, mask: bytes = b"\x00\x00\x00\x00") -> bytes:
    """Return a masked frame; with a mask of zeros the payload stands in it as it is."""
    length = len(payload)
    head = bytes((first, 0x80 | length)) if length < 126 else bytes((first, 0xFE)) + length.to_bytes(2, "big")
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


SEEDS: Final = (
    b"\x00" + _frame(0x81, b'{"type":"ping"}', b"\x01\x02\x03\x04") + _frame(0x88, b"\x03\xe8bye"),
    b"\x01" + _frame(0x01, b"{") + _frame(0x89, b"p") + _frame(0x00, b"a") + _frame(0x80, b"}"),
    b"\x02" + _frame(0x82, b"binary") + _frame(0x8A, b"pong") + _frame(0x88, b""),
    b"\x03" + _frame(0x81, b"x" * 200) + _frame(0x81, b"x" * 201),
    b"\x04" + _frame(0x01, b"x" * 150) + _frame(0x80, b"x" * 51),
    b"\x05\x81\xff\x00\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00ok",
    b"\x06\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00ok",
    b"\x07\x81\x02ok",
    b"\x08" + _frame(0xC1, b"rsv"),
    b"\x09" + _frame(0x83, b"opcode"),
    b"\x0a" + _frame(0x88, b"\x03\xed") + _frame(0x88, b"\x00"),
    b"\x0b" + _frame(0x89, b"p" * 126),
    b"\x0c" + _frame(0x09, b"p"),
    b"\x0d" + _frame(0x88, b"\x03\xe8\xff"),
    b"\x0e" + _frame(0x80, b"no beginning"),
    b"\x0f" + _frame(0x01, b"a") + _frame(0x81, b"b"),
)


@dataclass
class Heard:
    """What becomes of what a client sends.

    Attributes:
        texts: text messages, whole.
        pongs: what is answered to pings.
        ends: codes of which the close frame has one; empty where there is none.
    """

    texts: list[bytes] = field(default_factory=list)
    pongs: list[bytes] = field(default_factory=list)
    ends: set[int | None] = field(default_factory=set)


class _Model:
    """RFC 6455 section 5, over bytes that are all there."""

    def __init__(self, data: bytes) -> None:
        self.heard = Heard()
        self._data = data
        self._message: bytearray | None = None
        self._is_text = False
        self._room = FRAME_MAX_BYTES
        while not self.heard.ends and self._next():
            pass

    def _next(self) -> bool:
        """Read a frame, and tell whether it was there."""
        data = self._data
        if len(data) < 2:
            return False
        fin, opcode, length, at = bool(data[0] & 0x80), data[0] & 0x0F, data[1] & 0x7F, 2
        wrong = _breaches_of(data[0], data[1])
        if length >= 126:
            at += 2 if length == 126 else 8
            if len(data) < at:
                self._end_early(wrong)
                return False
            length = int.from_bytes(data[2:at], "big")
        if length > self._room:
            wrong.add(_TOO_LARGE)
        if opcode >= 8 and length > _CONTROL_MAX_BYTES:
            wrong.add(_PROTOCOL_ERROR)
        mask, payload = data[at : at + 4], data[at + 4 : at + 4 + length]
        if wrong or len(data) < at + 4 + length:
            self._end_early(wrong, whole=len(data) >= at + 4 + length)
            return False
        self._data = data[at + 4 + length :]
        self._take(fin, opcode, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)))
        return True

    def _end_early(self, wrong: set[int], *, whole: bool = False) -> None:
        """End for what a frame's head says; where the frame is not whole, that may yet have to come."""
        self.heard.ends |= wrong
        if wrong and not whole:
            self.heard.ends.add(None)

    def _take(self, fin: bool, opcode: int, payload: bytes) -> None:
        if opcode == 8:
            self.heard.ends = _answers_to_close(payload, in_message=self._message is not None)
        elif opcode == 9:
            self.heard.pongs.append(payload)
        elif opcode < 8:
            self._take_data(fin, opcode, payload)

    def _take_data(self, fin: bool, opcode: int, payload: bytes) -> None:
        if (self._message is None) == (opcode == 0):
            self.heard.ends = {_PROTOCOL_ERROR}
            return
        if self._message is None:
            self._message, self._is_text = bytearray(), opcode == 1
        self._message += payload
        self._room -= len(payload)
        if fin:
            if self._is_text:
                self.heard.texts.append(bytes(self._message))
            self._message, self._room = None, FRAME_MAX_BYTES


def _breaches_of(first: int, second: int) -> set[int]:
    """Return what the first two bytes of a frame do wrong."""
    opcode = first & 0x0F
    wrong = first & 0x70 or opcode not in {0, 1, 2, 8, 9, 10} or not second & 0x80 or (opcode >= 8 and not first & 0x80)
    return {_PROTOCOL_ERROR} if wrong else set()


def _answers_to_close(payload: bytes, *, in_message: bool) -> set[int | None]:
    """Return with which codes a close frame may be answered (RFC 6455 sections 5.5.1 and 7.4); 1005 is an empty one."""
    if not payload:
        answers = {1005}
    elif len(payload) == 1 or not _is_sendable(int.from_bytes(payload[:2], "big")):
        answers = {_PROTOCOL_ERROR}
    else:
        answers = {int.from_bytes(payload[:2], "big")}
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        answers = {_INVALID_DATA} | (answers & {_PROTOCOL_ERROR})
    # In the midst of a message the RFC does not say; websockets takes it for an error.
    return {*answers, *({_PROTOCOL_ERROR} if in_message else ())}


def _is_sendable(code: int) -> bool:
    return 3000 <= code < 5000 or code in {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}


def _heard_by(lone: Lone) -> tuple[list[bytes], list[bytes], list[int], bool]:
    """Return texts, pongs, close codes and whether the stream was ended; the session heard of the request in any case."""
    assert len(lone.heard.upgrades) == 1
    pongs: list[bytes] = []
    codes: list[int] = []
    data = lone.sent.partition(b"\r\n\r\n")[2]
    while data:
        assert data[0] in {0x8A, 0x88} and data[1] <= _CONTROL_MAX_BYTES, data[:20]
        payload, opcode, data = data[2 : 2 + data[1]], data[0], data[2 + data[1] :]
        if opcode == 0x8A:
            pongs.append(payload)
        else:
            codes.append(int.from_bytes(payload[:2], "big") if payload else 1005)
            assert not data, "something behind a close frame"
    return lone.heard.texts, pongs, codes, lone.transport.ended


def _by_the_library(data: bytes) -> tuple[list[bytes], bytes]:
    """Return text messages and what is written, by a plain ServerProtocol."""
    protocol = ServerProtocol(state=State.OPEN, max_size=FRAME_MAX_BYTES)
    protocol.receive_data(data)
    texts: list[bytes] = []
    text: bytearray | None = None
    for event in protocol.events_received():
        assert isinstance(event, Frame)
        if event.opcode is Opcode.TEXT:
            text = bytearray()
        if event.opcode in {Opcode.TEXT, Opcode.CONT} and text is not None:
            text += event.data
            if event.fin:
                texts.append(bytes(text))
                text = None
    return texts, b"".join(part for part in protocol.data_to_send() if part != SEND_EOF)


def run(data: bytes) -> None:
    """Hold what an edge makes of frames against the model, the library, and itself with other cuts."""
    seed, sent = data[0] if data else 0, data[1:]
    lone = Lone((_REQUEST, sent))
    texts, pongs, codes, ended = heard = _heard_by(lone)
    model = _Model(sent).heard
    assert texts == model.texts, (texts, model)
    assert pongs == model.pongs, (pongs, model)
    assert set(codes) <= model.ends and len(codes) <= 1, (codes, model)
    assert codes or not model.ends or None in model.ends, (codes, model)
    assert ended == bool(codes)
    library_texts, library_sent = _by_the_library(sent)
    assert texts == library_texts
    if codes != [_TOO_LARGE]:
        assert lone.sent.partition(b"\r\n\r\n")[2] == library_sent
    other = Lone((_REQUEST + sent,) if seed == 0 else (_REQUEST, *cut(sent, seed)))
    assert _heard_by(other) == heard
    assert other.waiting_max_bytes <= FRAME_MAX_BYTES + _HEAD_MAX_BYTES
    other.end()
