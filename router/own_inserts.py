"""Inserts over connections to MongoDB of one's own, for the one command that every batch of collect waits for.

For each command the driver makes four tasks, a session, and a look through its topology and its pool: some 150 µs of CPU,
where the command itself takes 20. Here an insert is one write, and one read that wakes whoever waits. The connections are the
driver's all the same: addresses, TLS, passwords and the greeting are its own, and what it has learnt of the servers tells
when one leads to what is no longer the primary.

Nothing is decided here. Whatever is out of the ordinary (no connection yet, a message too large for one, a reset, a server
that refuses, a write that no majority has confirmed) is told as None, and the caller has the driver insert the same
documents: it knows what to do with every error, and what stands there already shows. Behind an insert of the driver that went
well, `open` takes the next connection.

What is used of the driver beyond its public interface stands in `_connect` and `_Line.__init__`. Where a version of it no
longer has that, nothing is opened, the log says so once, and all inserts are the driver's.

Source: https://www.mongodb.com/docs/manual/reference/mongodb-wire-protocol/
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from struct import Struct
from typing import Any, Final, cast

import bson
import pymongo
import structlog
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import NetworkTimeout, PyMongoError
from pymongo.server_selectors import writable_server_selector

from router.mongo_client import Document, MongoClient, cancelled_once

log = structlog.get_logger(__name__)

_HEADER: Final = Struct("<iiii")  # length with itself, request id, response to, kind
_MSG: Final = 2013
_BODY: Final = b"\0\0\0\0\0"  # no flags; the command follows
_DOCUMENTS: Final = b"documents\0"
_SEQUENCE: Final = Struct("<Bi")  # kind 1, length with itself
_BODY_AT: Final = _HEADER.size + len(_BODY)

_REQUESTS: Final = 2**31 - 1
"""Ids of requests, behind the last of which the first comes again."""

_TAKES_WRITES: Final = frozenset({"Standalone", "RSPrimary", "Mongos"})

_PAUSE_S: Final = 1.0
"""How long a connection may take to be had, and how long none is tried for after one that was not to be had."""


class _Broken(Exception):
    """A connection is of no use any more, and it is not known what has come of what was asked."""


class _Line(asyncio.Protocol):
    """A connection, taken from the driver's own reading, which hears of its end only. One task at a time asks.

    Attributes:
        server: address of the server.
        most_bytes: of a message.
        most_documents: of an insert.
        document_bytes: of a document.
    """

    def __init__(self, connection: Any, client: MongoClient) -> None:  # noqa: ANN401 - the driver's
        self.server: Any = connection.address
        self.most_bytes: int = connection.max_message_size
        self.most_documents: int = connection.max_write_batch_size
        self.document_bytes: int = connection.max_bson_size
        self._transport: asyncio.Transport = connection.conn.get_conn.transport
        self._driver = cast("asyncio.Protocol", self._transport.get_protocol())
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._received = b""
        self._waiter: asyncio.Future[bytes] | None = None
        self._asked = 0
        self._until_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._transport.set_protocol(self)
        self._transport.resume_reading()
        client.kept.add(self._transport)

    @property
    def is_open(self) -> bool:
        """Whether anything may be asked."""
        return not self._transport.is_closing()

    def close(self) -> None:
        """Use it no more."""
        self._transport.abort()

    async def ask(self, message: list[bytes], timeout_s: float) -> Document:
        """Send a message, whose header is still to come, and return what is answered.

        Raises:
            _Broken: when there is no answer, or none that is understood.
            NetworkTimeout: when the server is silent for so long.
        """
        self._asked = self._asked % _REQUESTS + 1
        size = _HEADER.size + sum(map(len, message))
        self._waiter = self._loop.create_future()
        self._until_s = self._loop.time() + timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._until_s, self._look)
        try:
            self._transport.write(b"".join([_HEADER.pack(size, self._asked, 0, _MSG), *message]))
            reply = await self._waiter
            _, _, answers, kind = _HEADER.unpack_from(reply)
            if kind != _MSG or answers != self._asked:
                raise _Broken
            # A byte that belongs to another section would make it no document.
            return bson.decode(reply[_BODY_AT:])
        except (bson.errors.InvalidBSON, RuntimeError) as exc:
            raise _Broken from exc
        finally:
            self._waiter = None

    def _look(self) -> None:
        """End a wait that has taken too long; look again when the present one will have. A timer an insert would cost more."""
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() < self._until_s:
            self._timer = self._loop.call_at(self._until_s, self._look)
        else:
            self._fail(NetworkTimeout("MongoDB was silent for too long"))

    def data_received(self, data: bytes) -> None:
        """Take in what was read, and wake who waits when his answer is whole."""
        received = self._received = self._received + data
        if len(received) < _HEADER.size or len(received) < _HEADER.unpack_from(received)[0]:
            return
        self._received = b""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(received)

    def connection_lost(self, exc: Exception | None) -> None:
        """MongoDB, the network or we closed the connection."""
        self._client.kept.discard(self._transport)
        self._fail(_Broken())
        if self._timer is not None:
            self._timer.cancel()
        self._driver.connection_lost(exc)

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)


class OwnInserts:
    """Ordered inserts into one collection, with its write concern, over as many connections as inserts are under way.

    Args:
        documents: the collection.
        timeout_s: how long MongoDB may be silent.
    """

    def __init__(self, documents: AsyncCollection[Document], timeout_s: float) -> None:
        self._client: Any = documents.database.client
        self._timeout_s = timeout_s
        concern = documents.write_concern.document
        command = {"insert": documents.name, "ordered": True, "writeConcern": concern, "$db": documents.database.name}
        self._body = _BODY + bson.encode(command)
        self._idle: list[_Line] = []
        self._lacks = False
        self._known: Any = None
        # A client of another make may be a test's.
        self._fits = isinstance(self._client, MongoClient)
        self._not_before_s = 0.0

    async def insert(self, documents: Sequence[bytes]) -> Document | None:
        """Return what MongoDB says of it, `writeErrors` included; None where it has to be asked by way of the driver.

        Cancelled, it leaves a connection less, and what it has sent may be stored.

        Raises:
            NetworkTimeout: when it is unknown what has been stored, and MongoDB is silent.
        """
        line = self._take()
        if line is None:
            return None
        sequence = sum(map(len, documents))
        size = _HEADER.size + len(self._body) + _SEQUENCE.size + len(_DOCUMENTS) + sequence
        if size > line.most_bytes or len(documents) > line.most_documents or max(map(len, documents)) > line.document_bytes:
            self._idle.append(line)
            return None
        counted = _SEQUENCE.pack(1, 4 + len(_DOCUMENTS) + sequence)
        reply: Document = {}
        try:
            reply = await line.ask([self._body, counted, _DOCUMENTS, *documents], self._timeout_s)
        except _Broken:
            return None
        finally:
            # Of a server that refuses the driver has to hear, and this connection may be why.
            told = "writeErrors" in reply or reply.get("n") == len(documents)
            usual = told and reply.get("ok") == 1 and "writeConcernError" not in reply
            self._idle.append(line) if usual else line.close()
        return reply if usual else None

    def _take(self) -> _Line | None:
        """Return a connection that leads to where writes go, as far as the driver knows."""
        if self._idle and self._client.topology_description is not self._known:
            self._look()
        while self._idle:
            line = self._idle.pop()
            if line.is_open:
                return line
        self._lacks = True
        return None

    def _look(self) -> None:
        """Close what leads to a server that takes no writes any more; the driver has news of its servers."""
        self._known = self._client.topology_description
        servers = self._known.server_descriptions()
        for line in self._idle:
            if line.server not in servers or servers[line.server].server_type_name not in _TAKES_WRITES:
                line.close()

    @cancelled_once
    async def open(self) -> None:
        """Open a connection where one was lacking, for whoever has just used the driver; that none is to be had is no error."""
        if not self._lacks or not self._fits or time.monotonic() < self._not_before_s:
            return
        self._lacks = False
        try:
            self._idle.append(await self._connect())
        except PyMongoError as exc:
            self._not_before_s = time.monotonic() + _PAUSE_S
            log.debug("own_connection_refused", error=str(exc))
        except (AttributeError, TypeError) as exc:
            self._fits = False
            log.warning("driver_unfamiliar", error=str(exc))

    async def _connect(self) -> _Line:
        with pymongo.timeout(_PAUSE_S):
            server = await self._client._select_server(writable_server_selector, None, "insert")  # noqa: SLF001 - no other way
            connection = await server.pool.connect()
        # So that the driver's pool knows nothing of it, neither to count it nor to close it.
        server.pool.active_contexts.discard(connection.cancel_context)
        return _Line(connection, self._client)
