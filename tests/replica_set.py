"""A MongoDB replica set for tests: two members that a driver sees, in front of the embedded store, and what happens to them.

    with ReplicaSet(store.port) as members:
        client = pymongo.MongoClient(members.url)
        members.fail("insert", NOT_PRIMARY, times=2)
        members.step_down(election_s=0.5)

Theory of operation. Each member is an address of its own. It answers `hello` itself, as one of a set (as a server does, only
when there is news of the set, where a monitor waits for that), so that the driver's own discovery, retries and failover
are what is tested; whatever else it is asked it carries to its store and back. Both lead to one store, which is then a set that
replicates at once. `part` gives the primary a store of its own, which gets nothing of what others store from then on.

The store's own part of a retryable write is real: it remembers what was done under a session's transaction number. What is not:
no write is ever rolled back, and a majority is whatever this module says.

Runs in a thread of its own, so that tests may block. All methods may be called from any thread.
"""

from __future__ import annotations

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from threading import Lock, Thread
from types import TracebackType
from typing import Any, Final, Self

import bson

from tests.chaos.proxy import reset_connection
from tests.failures import CONCERN_SHUTDOWN, CONCERN_TIMEOUT, INTERRUPTED_SILENTLY, NO_SECONDARY_OK, NOT_PRIMARY, Failure, When
from tests.op_msg import Document, Message, answer_to, read_answer, read_message, read_raw

HOST: Final = "127.0.0.1"
NAME: Final = "tests"

_HELLO: Final = frozenset({"hello", "ismaster", "isMaster"})
_WRITES: Final = frozenset({"insert", "update", "delete", "findAndModify", "findandmodify", "createIndexes"})
_WITHOUT_PRIMARY: Final = frozenset({"ping", "endSessions", "killCursors", "buildInfo", "getMore"})
_PROCESS: Final = bson.ObjectId()


class Member:
    """One address of a set.

    Attributes:
        port: where it listens.
        store_port: where it leads.
        away: connections to it are reset.
        deposed: it takes itself for the primary, and no majority does: it does what it is asked, and cannot have it confirmed.
    """

    def __init__(self, store_port: int) -> None:
        self.port = 0
        self.store_port = store_port
        self.away = False
        self.deposed = False
        self.writers: set[StreamWriter] = set()

    @property
    def address(self) -> str:
        """As the set names it."""
        return f"{HOST}:{self.port}"


class Way:
    """A connection's way to the store that its member leads to.

    Attributes:
        member: whose.
    """

    def __init__(self, member: Member) -> None:
        self.member = member
        self._port = 0
        self._writer: StreamWriter | None = None

    async def ask(self, raw: bytes) -> bytes:
        """Return what the store answers."""
        if self._writer is None or self._port != self.member.store_port:
            self.close()
            self._port = self.member.store_port
            self._reader, self._writer = await asyncio.open_connection(HOST, self._port)
        self._writer.write(raw)
        return await read_raw(self._reader)

    def close(self) -> None:
        """Leave the store."""
        if self._writer is not None:
            reset_connection(self._writer)
            self._writer = None


class ReplicaSet:
    """Two members, the first of which is the primary.

    Args:
        store_port: the store of both.

    Attributes:
        members: both.
        asked: how often each command has come, from whatever client.
        answers: what commands of a name are answered with, in the store's place; one that is None leaves it to the store.
        router: whether they call themselves routers of a sharded cluster.
        commands: those that `answers` answered.
    """

    def __init__(self, store_port: int) -> None:
        self.members = (Member(store_port), Member(store_port))
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, Callable[[Document], Document | None]] = {}
        self.router = False
        self.commands: list[Document] = []
        self._primary: int | None = 0
        self._term = 1
        self._version = 1
        self._failures: list[tuple[str, Failure]] = []
        self._lock = Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="replica set")
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()

    # -- for tests ---------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """How a driver reaches the set."""
        where = ",".join(member.address for member in self.members)
        return f"mongodb://{where}/" if self.router else f"mongodb://{where}/?replicaSet={NAME}"

    @property
    def left(self) -> int:
        """How many failures nobody has met with yet."""
        with self._lock:
            return len(self._failures)

    def fail(self, command: str, failure: Failure, times: int = 1) -> None:
        """Have the next so many commands of a name fail."""
        with self._lock:
            self._failures += [(command, failure)] * times

    def step_down(self, election_s: float = 0.0) -> float:
        """Have the other member become primary, after an election; return when it is (monotonic clock). Blocks meanwhile."""
        with self._lock:
            was = self._primary
        self._elect(None)
        time.sleep(election_s)
        self._elect(0 if was else 1)
        return time.monotonic()

    def crash(self, election_s: float = 0.0) -> float:
        """The same, and the old primary is gone with all of its connections until the other one is elected."""
        with self._lock:
            member = self.members[self._primary or 0]
        member.away = True
        self._call(self._reset(member))
        since_s = self.step_down(election_s)
        member.away = False
        return since_s

    def part(self, store_port: int) -> None:
        """Cut the primary off from its set: it does not know, and its clients see nobody else; the store stands still in it.

        Args:
            store_port: of a store with what the primary had at that moment.
        """
        primary, other = self.members[self._primary or 0], self.members[0 if self._primary else 1]
        primary.deposed, primary.store_port, other.away = True, store_port, True
        self._call(self._reset(other))

    def heal(self, store_port: int) -> None:
        """Join what was parted: the other one has been the primary, and the deposed one learns it and takes what that has."""
        for member in self.members:
            member.deposed, member.away, member.store_port = False, False, store_port
        self.step_down()

    # -- the set -----------------------------------------------------------------------------------------------------

    def _elect(self, primary: int | None) -> None:
        self._call(self._change(primary))

    async def _change(self, primary: int | None) -> None:
        with self._lock:
            self._primary = primary
            self._term += primary is not None
            self._version += 1
        news, self._news = self._news, asyncio.Event()
        news.set()

    @staticmethod
    async def _reset(member: Member) -> None:
        for writer in list(member.writers):
            reset_connection(writer)

    def _hello(self, member: Member) -> Document:
        """Return what a member says of itself and of the set."""
        told: Document = {
            "maxBsonObjectSize": 16_777_216,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "logicalSessionTimeoutMinutes": 30,
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "ok": 1.0,
        }
        if self.router:
            return told | {"isWritablePrimary": True, "ismaster": True, "msg": "isdbgrid"}
        leads = self._primary is not None and self.members[self._primary] is member
        told |= {
            "topologyVersion": {"processId": _PROCESS, "counter": bson.Int64(self._version)},
            "setName": NAME,
            "setVersion": 1,
            "hosts": [one.address for one in self.members],
            "me": member.address,
            "isWritablePrimary": leads,
            "ismaster": leads,
            "secondary": not leads,
        }
        if self._primary is not None:
            told["primary"] = self.members[self._primary].address
        return told | ({"electionId": bson.ObjectId(f"7fffffff{self._term:016x}")} if leads else {})

    async def _greet(self, member: Member, asked: Message) -> Document:
        known = asked.command.get("topologyVersion")
        if known and known["counter"] >= self._version:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), asked.command.get("maxAwaitTimeMS", 0) / 1000)
        return self._hello(member)

    # -- connections -------------------------------------------------------------------------------------------------

    async def _serve(self, member: Member, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        member.writers.add(writer)
        try:
            if not member.away:
                await self._converse(member, reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # either side is gone, and with it the conversation; asyncio's streams complain of a task that was cancelled
        finally:
            member.writers.discard(writer)
            reset_connection(writer)
            self._tasks.discard(task)

    async def _converse(self, member: Member, reader: StreamReader, writer: StreamWriter) -> None:
        way = Way(member)
        try:
            while raw := await read_raw(reader):
                asked = read_message(raw)
                if asked.name in _HELLO:
                    answer: bytes | None = answer_to(asked, await self._greet(member, asked))
                else:
                    answer = await self._answer(way, asked)
                if answer is None or writer.is_closing():
                    return
                writer.write(answer)
                await writer.drain()
        finally:
            way.close()

    async def _answer(self, way: Way, asked: Message) -> bytes | None:
        """Return what a command is answered with; None where the connection ends instead."""
        self.asked[asked.name] += 1
        failure = self._met(way.member, asked)
        if failure is not None and failure.when is When.BEFORE:
            return None
        if failure is not None and failure.when is When.INSTEAD:
            return answer_to(asked, failure.put_into(self._hello(way.member)))
        own = self.answers[asked.name](asked.command) if asked.name in self.answers else None
        if own is not None:
            self.commands.append(asked.command)
            return answer_to(asked, own)
        answer = await way.ask(asked.raw)
        if failure is CONCERN_SHUTDOWN:
            # Whoever shuts down tells the monitors. This one has come back at once.
            await self._change(self._primary)
        if failure is not None and failure.when is When.AFTER:
            return None
        return answer_to(asked, failure.put_into(read_answer(answer))) if failure else answer

    def _met(self, member: Member, asked: Message) -> Failure | None:
        """Return what a command meets with: by what was asked for, or because of what the member is."""
        with self._lock:
            for number, (name, failure) in enumerate(self._failures):
                if name == asked.name:
                    del self._failures[number]
                    return failure
            leads = self._primary is not None and self.members[self._primary] is member
        if member.deposed:
            return _unconfirmed(asked)
        if leads or self.router or asked.name in _WITHOUT_PRIMARY:
            return None
        return NOT_PRIMARY if asked.name in _WRITES else NO_SECONDARY_OK

    # -- its thread --------------------------------------------------------------------------------------------------

    def _call(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _open(self) -> None:
        for member in self.members:
            server = await asyncio.start_server(partial(self._serve, member), HOST, 0)
            member.port = server.sockets[0].getsockname()[1]
            self._servers.append(server)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _unconfirmed(asked: Message) -> Failure | None:
    """Return what a primary says that no majority follows: it does what it can alone, and is not believed in the end."""
    if asked.name in _WRITES:
        return CONCERN_TIMEOUT
    return INTERRUPTED_SILENTLY if asked.command.get("readConcern", {}).get("level") == "linearizable" else None
