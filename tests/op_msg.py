"""MongoDB's wire protocol, as far as tests stand between a driver and a store: whole messages, and the command in them.

OP_MSG (2013) is read but for its document sequences, which hold what is inserted; of OP_QUERY (2004) a driver sends only its
first word. Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

from __future__ import annotations

import struct
from asyncio import IncompleteReadError, StreamReader
from typing import Any, Final, NamedTuple

import bson

Document = dict[str, Any]

_HEADER: Final = struct.Struct("<iiii")  # length with itself, request id, response to, kind
_REPLY: Final = struct.Struct("<iqii")  # flags, cursor, starting from, documents
_QUERY: Final = 2004
_OP_REPLY: Final = 1
_MSG: Final = 2013

_TEXT: Final = bson.CodecOptions[Document](unicode_decode_error_handler="replace")


class Message(NamedTuple):
    """A message of a driver.

    Attributes:
        raw: all of it.
        request_id: what the answer refers to.
        kind: its opcode.
        command: the body, whose first key is the command's name.
    """

    raw: bytes
    request_id: int
    kind: int
    command: Document

    @property
    def name(self) -> str:
        """The command's name."""
        return next(iter(self.command))


async def read_raw(reader: StreamReader) -> bytes:
    """Return the next message; b"" at the end."""
    try:
        header = await reader.readexactly(_HEADER.size)
        return header + await reader.readexactly(_HEADER.unpack(header)[0] - len(header))
    except (IncompleteReadError, OSError):
        return b""


def read_message(raw: bytes) -> Message:
    """Return what a driver says."""
    _, request_id, _, kind = _HEADER.unpack_from(raw)
    behind_flags = _HEADER.size + 4
    start = _start_of_query(raw, behind_flags) if kind == _QUERY else _start_of_body(raw, behind_flags)
    (size,) = struct.unpack_from("<i", raw, start)
    return Message(raw, request_id, kind, bson.decode(raw[start : start + size], _TEXT))


def read_answer(raw: bytes) -> Document:
    """Return what a server answers to an OP_MSG."""
    return read_message(raw).command


def answer_to(asked: Message, document: Document) -> bytes:
    """Return an answer as a server sends it."""
    body = bson.encode(document)
    if asked.kind == _QUERY:
        body, kind = _REPLY.pack(8, 0, 0, 1) + body, _OP_REPLY  # AwaitCapable
    else:
        body, kind = struct.pack("<IB", 0, 0) + body, _MSG
    return _HEADER.pack(_HEADER.size + len(body), 1, asked.request_id, kind) + body


def _start_of_body(raw: bytes, at: int) -> int:
    """Return where the body's document begins; a document sequence may stand before it."""
    while raw[at] != 0:
        (size,) = struct.unpack_from("<i", raw, at + 1)
        at += 1 + size
    return at + 1


def _start_of_query(raw: bytes, at: int) -> int:
    """Return where the command's document begins: behind a collection's name, how many to skip, and to return."""
    return raw.index(b"\0", at) + 1 + 4 + 4
