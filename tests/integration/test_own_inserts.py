"""router.own_inserts, below an inbox: most inserts go past the driver, and whatever is out of the ordinary through it."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import structlog
from pymongo.errors import NetworkTimeout

from router.inbox import Inbox
from router.mongo_client import MongoClient, open_mongo
from router.settings import Settings
from router.stored import Document, Insertion, make_document
from tests.bench.null_store import ANSWERS, sections
from tests.op_msg import Message, answer_to, read_message, read_raw

pytestmark = pytest.mark.anyio

RESET: Document = {}
NEVER: Document = {"never": 1}
NOT_PRIMARY: Document = {"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary"}
UNCONFIRMED: Document = {"ok": 1.0, "n": 1, "writeConcernError": {"code": 91, "errmsg": "shutting down"}}
TOO_FEW: Document = {"ok": 1.0, "n": 0}
HEADER_BYTES = 16


class _Server:
    """A store that keeps nothing, and answers inserts as told.

    Attributes:
        inserts: whether each came by way of the driver, which names a session, in order.
        answers: what the next ones are answered; that all went well when there is none.
    """

    def __init__(self) -> None:
        self.port = 0
        self.inserts: list[str] = []
        self.answers: list[Document] = []
        self.open = 0

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Answer a connection's commands."""
        self.open += 1
        try:
            while raw := await read_raw(reader):
                message = read_message(raw)
                answer = self._insert(message) if message.name == "insert" else ANSWERS.get(message.name, {"ok": 1.0})
                if answer is RESET:
                    break
                if answer is not NEVER:
                    writer.write(answer_to(message, answer))
        finally:
            self.open -= 1
            writer.close()

    def _insert(self, message: Message) -> Document:
        assert message.command["ordered"] is True
        assert message.command["writeConcern"] == {"w": "majority", "j": True, "wtimeout": 400}
        assert message.command["$db"] == "pushway"
        self.inserts.append("driver" if "lsid" in message.command else "own")
        _, documents = sections(memoryview(message.raw)[HEADER_BYTES:])
        return self.answers.pop(0) if self.answers else {"ok": 1.0, "n": documents}


class _Site:
    def __init__(self, server: _Server, client: MongoClient, inbox: Inbox) -> None:
        self.server = server
        self.client: Any = client
        self.inbox = inbox

    async def insert(self, *seqs: int, bytes_each: int = 10) -> Insertion:
        """Insert documents of these seqs."""
        with anyio.fail_after(20):
            return await self.inbox.insert([_document(seq, bytes_each) for seq in seqs])


@asynccontextmanager
async def _site() -> AsyncIterator[_Site]:
    server = _Server()
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        settings = Settings(mongo_url=f"mongodb://127.0.0.1:{server.port}", mongo_database="pushway", mongo_timeout_s=0.5)
        async with open_mongo(settings) as client:
            assert isinstance(client, MongoClient)
            yield _Site(server, client, Inbox(client, settings))
        with anyio.fail_after(20):
            while server.open:  # noqa: ASYNC110 - the server's count
                await anyio.sleep(0.01)


def _document(seq: int, bytes_each: int = 10) -> Document:
    place, frame = (0, seq), "x" * bytes_each
    more: dict[str, Any] = {"carried": (), "now_ms": 0, "shard": 0, "expires_ms": 2**41}
    return make_document(target="user:a", message_id=f"m{seq}", place=place, frame=frame, **more)


async def test_inserts_go_past_the_driver() -> None:
    """All but the first, behind which a connection is taken; closing the client closes that, too."""
    async with _site() as site:
        for seq in range(1, 5):
            assert await site.insert(seq, seq + 10) == Insertion()
        assert site.server.inserts == ["driver", "own", "own", "own"]


async def test_inserts_at_once_have_a_connection_each() -> None:
    """Owners of several shards do not wait for each other."""
    async with _site() as site:
        for _ in range(4):
            async with anyio.create_task_group() as tasks:
                for seq in range(3):
                    tasks.start_soon(site.insert, seq)
        assert site.server.inserts[-3:] == ["own"] * 3
        assert len(site.client.kept) == 3


@pytest.mark.parametrize(
    "answer", [RESET, NOT_PRIMARY, UNCONFIRMED, TOO_FEW], ids=["reset", "not primary", "unconfirmed", "too few"]
)
async def test_what_goes_wrong_is_left_to_the_driver(answer: Document) -> None:
    """The same documents are inserted by it at once, the connection is given up, and another one is taken behind that."""
    async with _site() as site:
        await site.insert(1)
        site.server.answers = [answer]
        assert await site.insert(2) == Insertion()
        await site.insert(3)
        assert site.server.inserts == ["driver", "own", "driver", "own"] or site.server.inserts[:3] == [
            "driver",
            "own",
            "driver",
        ]


async def test_a_silent_server_is_an_outage() -> None:
    """It is told in time and not asked for again at once; the next insert goes through the driver."""
    async with _site() as site:
        await site.insert(1)
        site.server.answers = [NEVER]
        with pytest.raises(NetworkTimeout):
            await site.insert(2)
        assert await site.insert(2) == Insertion()
        assert site.server.inserts == ["driver", "own", "driver"]


async def test_a_document_that_is_taken_is_told_by_its_index() -> None:
    """What stood before it is stored and not inserted again; what stands behind it is inserted by way of the driver."""
    async with _site() as site:
        await site.insert(1)
        duplicate = {"index": 1, "code": 11000, "errmsg": "E11000"}
        site.server.answers = [{"ok": 1.0, "n": 1, "writeErrors": [duplicate]}]
        assert await site.insert(2, 3, 4) == Insertion(taken={1})
        assert await site.insert(5) == Insertion()
        assert site.server.inserts == ["driver", "own", "driver", "own"]


async def test_what_is_too_large_for_a_message_is_left_to_the_driver() -> None:
    """Which sends it in several."""
    async with _site() as site:
        await site.insert(1)
        assert await site.insert(*range(2, 7), bytes_each=12_000_000) == Insertion()
        await site.insert(9)
        assert site.server.inserts == ["driver", "driver", "driver", "own"]


async def test_a_cancelled_insert_costs_its_connection() -> None:
    """Its answer may still come, and is nobody's."""
    async with _site() as site:
        await site.insert(1)
        site.server.answers = [NEVER]
        with anyio.move_on_after(0.05):
            await site.insert(2)
        assert await site.insert(3) == Insertion()
        assert site.server.inserts == ["driver", "own", "driver"]


async def test_a_server_that_is_no_longer_the_primary_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the driver knows of it, and before anything more is sent there."""
    async with _site() as site:
        await site.insert(1)
        address = ("127.0.0.1", site.server.port)
        servers = {address: SimpleNamespace(server_type_name="RSSecondary")}
        news = SimpleNamespace(server_descriptions=lambda: servers)
        monkeypatch.setattr(MongoClient, "topology_description", news)
        await site.insert(2)
        assert site.server.inserts == ["driver", "driver"]


async def test_a_driver_of_another_make_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has not what a connection is taken by, that is said once, and all goes through it."""
    select: Any = MongoClient._select_server

    async def unfamiliar(*args: object, **options: object) -> object:
        return await select(*args, **options) if options else None

    async with _site() as site:
        with structlog.testing.capture_logs() as logs, monkeypatch.context() as patched:
            patched.setattr(MongoClient, "_select_server", unfamiliar)
            for seq in range(3):
                assert await site.insert(seq) == Insertion()
        assert site.server.inserts == ["driver"] * 3
        assert [entry["event"] for entry in logs] == ["driver_unfamiliar"]
