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
from pymongo.errors import PyMongoError

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

log = structlog.get_logger(__name__)

_CANCELLED: Final = "operation cancelled"
"""What the driver says of a call that it cuts off itself, as soon as its own look at the server has had no answer."""

_ending: Final[set[asyncio.Task[Any]]] = set()
"""Cancelled calls that have not ended yet: the loop itself holds its tasks weakly."""


def brief(exc: BaseException) -> str:
    """Return the beginning of what a driver says, which goes on with its own settings and the state of every server."""
    said = (str(exc) or type(exc).__name__).splitlines()[0].partition(" (configured timeouts")[0].partition(", Timeout:")[0]
    return "the server takes connections and does not answer" if said == _CANCELLED else said


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
    """A client that closes in good time while the server is away, and as a whole when its closing is cut off."""

    @cancelled_once
    async def close(self) -> None:
        """End the driver's tasks and connections."""
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
    database = client.get_database(
        settings.mongo_database,
        write_concern=WriteConcern(w="majority", j=True, wtimeout=int(settings.mongo_timeout_s * 1000)),
    )
    return database.get_collection(name, read_preference=ReadPreference.PRIMARY)
