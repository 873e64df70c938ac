"""The MongoDB driver under anyio: each call in a task of its own, which is cancelled once; and a client that closes in time.

anyio cancels by level: a task in a cancelled scope is cancelled at every turn of the loop until it has left the scope. asyncio,
and the driver with it, cancels by edge: once, and whoever is cancelled may still await what puts things in order.

The driver waits for a server in `asyncio.wait_for(condition.wait(), …)`, on the lock of its whole topology. Before Python 3.12
`wait_for` runs the wait as a task and, cancelled, waits until that has ended, for it takes the lock again to hand it back.
Cancelled a second time it goes without, as happens when several calls are cancelled at once and queue for the lock: a lock is
let go that is not held ("Lock is not acquired"), the deserted wait takes it afterwards, and nobody ever gives it back. From
then on every call of that client hangs, whatever its timeouts, and so does the end of the event loop, which waits for a task
that will not be cancelled.

So whatever awaits the driver is wrapped in `cancelled_once`; a test walks the modules and says so.

Who answers. A primary that is cut off from its set goes on thinking that it is one, for ten seconds and more, while the
others have a new one. What it is asked to write no majority acknowledges; but it answers whoever reads, without all that was
accepted meanwhile, and with what will be taken back. Where either would do harm, a collection is read as `confirmed`: such a
primary does not answer then. A write that changes nothing needs no more than any other: MongoDB acknowledges it when all before
it is safe, so what a refused duplicate has found stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import anyio
import pymongo
import structlog
from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.server_description import ServerDescription

from router.metrics import MONGO_SECONDS
from router.settings import Settings
from router.tls.trust import check_mongo_trust

P = ParamSpec("P")
R = TypeVar("R")

Document = dict[str, Any]

STORE_OUTAGE: Final = (PyMongoError,)
"""What a call to MongoDB raises when it is away, slow or failing over: back off and try again."""

END_TIMEOUT_S: Final = 1.0
"""How long a cancelled call is waited for. It has at most a lock to take and a connection to drop."""

CLOSE_TIMEOUT_S: Final = 1.0
"""How long a closing client may look for a server, to tell it which sessions and cursors are over; it forgets them anyway."""

CONFIRMED: Final = ReadConcern("linearizable")
"""Read on the primary, and answered when a majority still takes it for one after the reading. MongoDB speaks of single
documents; of many it holds, too, that all is there which was acknowledged before the reading began, and stays.
Source: https://www.mongodb.com/docs/manual/reference/read-concern-linearizable/
"""

WRITE_PATIENCE: Final = 0.8
"""What part of `mongo_timeout_s` a write waits for the majority. Behind it the server says what it lacks; the driver's own
patience would end with a connection dropped, and every other one to that server."""

log = structlog.get_logger(__name__)

_CANCELLED: Final = "operation cancelled"
"""What the driver says of a call that it cuts off itself, as soon as its own look at the server has had no answer."""

_ending: Final[set[asyncio.Task[Any]]] = set()
"""Cancelled calls that have not ended yet: the loop itself holds its tasks weakly."""


def brief(exc: BaseException) -> str:
    """Return the beginning of what a driver says, which goes on with its own settings and the state of every server."""
    said = _of_bulk(exc) if isinstance(exc, BulkWriteError) else str(exc)
    said = (said or type(exc).__name__).splitlines()[0]
    for details in (" (configured timeouts", ", Timeout:", ", full error:"):
        said = said.partition(details)[0]
    return "the server takes connections and does not answer" if said == _CANCELLED else said


def _of_bulk(exc: BulkWriteError) -> str:
    """Return what a server says of the first write that failed; the driver says only that one did, and quotes the document."""
    found: list[dict[str, Any]] = [*exc.details.get("writeConcernErrors", ()), *exc.details.get("writeErrors", ())]
    return str(found[0].get("errmsg", "")) if found else str(exc)


def cancelled_once(call: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Have each call run in a task of its own, which is cancelled once when the caller is, and waited for.

    On cancellation the call has ended, with whatever outcome; one that has not within `END_TIMEOUT_S` is left to itself, and
    the log says so.
    """

    @wraps(call)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        task = asyncio.create_task(call(*args, **kwargs))
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            await _end(task, call.__qualname__)
            raise
        return task.result()

    return run


def timed(operation: str) -> Callable[[Callable[P, Awaitable[R]]], Callable[P, Awaitable[R]]]:
    """Have the time of each call counted as one of that operation, failed ones too."""

    def wrap(call: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
        @wraps(call)
        async def run(*args: P.args, **kwargs: P.kwargs) -> R:
            with MONGO_SECONDS.labels(operation).time():
                return await call(*args, **kwargs)

        return run

    return wrap


async def _end(task: asyncio.Task[Any], call: str) -> None:
    _ending.add(task)
    task.add_done_callback(_forget)
    task.cancel()
    with anyio.move_on_after(END_TIMEOUT_S, shield=True):
        await asyncio.wait([task])
    if not task.done():
        log.error("driver_call_left", call=call)


def _forget(task: asyncio.Task[Any]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # which asks for it: nobody else will, and asyncio would complain of that


class MongoClient(AsyncMongoClient[Document]):
    """A client that closes in good time while the server is away, and as a whole when its closing is cut off.

    Attributes:
        kept: connections that were taken from it, for it to close.
    """

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - the driver's signature
        super().__init__(*args, **options)
        self.kept: set[asyncio.Transport] = set()

    @cancelled_once
    async def close(self) -> None:
        """End the driver's tasks and connections."""
        for transport in tuple(self.kept):
            transport.abort()
        with pymongo.timeout(CLOSE_TIMEOUT_S):
            await super().close()


def open_mongo(settings: Settings) -> AsyncMongoClient[Document]:
    """Return a client that has not connected yet.

    Raises:
        SetupError: when `mongo_ca_file` cannot be used.
    """
    check_mongo_trust(settings)
    trust: dict[str, Any] = {"tlsCAFile": settings.mongo_ca_file} if settings.mongo_ca_file else {}
    timeout_ms = int(settings.mongo_timeout_s * 1000)
    # It tries a write again by itself, once: one whose answer was lost is not done twice, and says the same as the first time.
    # All of ours may be repeated even so, but some would count too low what they have done.
    return MongoClient(
        settings.mongo_url,
        appname="pushway",
        tz_aware=True,
        serverSelectionTimeoutMS=timeout_ms,
        connectTimeoutMS=timeout_ms,
        socketTimeoutMS=timeout_ms,
        **trust,
    )


def durable_collection(client: AsyncMongoClient[Document], settings: Settings, name: str) -> AsyncCollection[Document]:
    """Return a collection whose writes wait for a majority and the journal, and which is read from the primary.

    The primary alone has surely all that was acknowledged a moment ago, to whomever.
    """
    patience_ms = int(settings.mongo_timeout_s * 1000 * WRITE_PATIENCE)
    database = client.get_database(
        settings.mongo_database, write_concern=WriteConcern(w="majority", j=True, wtimeout=patience_ms)
    )
    return database.get_collection(name, read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern("local"))


def confirmed(documents: AsyncCollection[Document]) -> AsyncCollection[Document]:
    """Return the same collection, as it is to be read where an old answer would do harm, or one that is taken back.

    It costs the set a note in its log and the reader a round of its members. A server without others has none to follow it, and
    some know of no such reading.
    """
    known = documents.database.client.topology_description.server_descriptions().values()
    return documents if known and all(map(_is_alone, known)) else documents.with_options(read_concern=CONFIRMED)


def _is_alone(server: ServerDescription) -> bool:
    if server.server_type_name == "RSPrimary":
        return len(server.all_hosts) == 1
    return server.server_type_name == "Standalone"
