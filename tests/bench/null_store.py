#!/usr/bin/env python3
"""A MongoDB that says yes to everything and keeps nothing: behind it, only our own cost is left of the durable path.

    python null_store.py PORT

It speaks OP_MSG, the one message of today's drivers, and answers the OP_QUERY that they begin a connection with (MongoDB wire
protocol specification). Of a request it reads the name of the command and how many documents an insert brings, nothing else.
Finds find nothing, so nothing can be replayed from it.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from typing import Any, Final, cast

import bson
import uvloop

HOST: Final = "127.0.0.1"

_HEADER: Final = struct.Struct("<iiii")  # length, request id, answer to, operation
_OP_REPLY: Final = 1
_OP_QUERY: Final = 2004
_OP_MSG: Final = 2013
_FLAGS_BYTES: Final = 4
_ONE_DOCUMENT: Final = 0
_REPLY: Final = struct.Struct("<iqii")  # flags, cursor, first document's place, documents
_INT32: Final = struct.Struct("<i")

_EMPTY: Final = {"id": 0, "ns": "null.store", "firstBatch": []}

_HELLO: Final = {
    "ok": 1.0,
    "isWritablePrimary": True,
    "helloOk": True,
    "maxBsonObjectSize": 16 * 1024 * 1024,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "logicalSessionTimeoutMinutes": 30,
    "readOnly": False,
}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "hello": _HELLO,
    "ismaster": _HELLO,
    "find": {"ok": 1.0, "cursor": _EMPTY},
    "aggregate": {"ok": 1.0, "cursor": _EMPTY},
    "update": {"ok": 1.0, "n": 1, "nModified": 1},
    "delete": {"ok": 1.0, "n": 0},
    "buildInfo": {"ok": 1.0, "version": "7.0.0", "versionArray": [7, 0, 0, 0]},
}

_OTHERS: Final = {"ok": 1.0}

_indexes: Final[dict[str, list[dict[str, Any]]]] = {}
"""By collection. Collect asks for them at its start."""


def sections(message: memoryview) -> tuple[dict[str, Any], int]:
    """Return the command of an OP_MSG without its header, and how many documents came with it."""
    command: dict[str, Any] = {}
    documents, at = 0, _FLAGS_BYTES
    while at < len(message):
        kind, at = message[at], at + 1
        (size,) = _INT32.unpack_from(message, at)
        if kind == _ONE_DOCUMENT:
            command = bson.decode(bytes(message[at : at + size]))
        else:
            documents += _count(message[at + _INT32.size : at + size])
        at += size
    return command, documents


def _count(sequence: memoryview) -> int:
    """Return how many documents stand behind a sequence's name."""
    at, count = bytes(sequence[:64]).index(b"\0") + 1, 0
    while at < len(sequence):
        at += _INT32.unpack_from(sequence, at)[0]
        count += 1
    return count


def answer(message: memoryview) -> dict[str, Any]:
    """Return what a server that has done as told would say."""
    command, documents = sections(message)
    name = next(iter(command))
    if name == "insert":
        return {"ok": 1.0, "n": documents or len(command["documents"])}
    if name == "createIndexes":
        _indexes.setdefault(command[name], []).extend(command["indexes"])
    if name == "listIndexes":
        return {"ok": 1.0, "cursor": {**_EMPTY, "firstBatch": _indexes.get(command[name], [])}}
    return ANSWERS.get(name, _OTHERS)


class NullStore(asyncio.Protocol):
    """One connection of a driver."""

    def __init__(self) -> None:
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by their type

    def data_received(self, data: bytes) -> None:
        """Answer each message that is whole."""
        self._received += data
        while len(self._received) >= _HEADER.size:
            size, request, _, operation = _HEADER.unpack_from(self._received)
            if len(self._received) < size:
                return
            message = bytes(self._received[_HEADER.size : size])
            del self._received[:size]
            if operation == _OP_QUERY:
                self._write(request, _OP_REPLY, _REPLY.pack(0, 0, 0, 1) + bson.encode(_HELLO))
            else:
                self._write(request, _OP_MSG, bytes(_FLAGS_BYTES + 1) + bson.encode(answer(memoryview(message))))

    def _write(self, request: int, operation: int, reply: bytes) -> None:
        self._transport.write(_HEADER.pack(_HEADER.size + len(reply), 0, request, operation) + reply)


async def serve(port: int) -> None:
    """Serve until cancelled."""
    server = await asyncio.get_running_loop().create_server(NullStore, HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
