"""router.sentinels on a sentinel that answers what a test wants: which primary is believed in the middle of a failover."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.abc
import hiredis
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from router.primary_pool import PrimaryPool, primary_pool_of
from router.redis_client import open_redis
from router.redis_url import Address
from router.settings import Settings
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

OLD, NEW = Address("10.0.0.1", 6379), Address("10.0.0.2", 6379)

Answer = Callable[[str], tuple[Address, int] | None]
"""Asked for `MASTER`, or `GET-MASTER-ADDR-BY-NAME`: the address and epoch that the sentinel tells then; None for neither."""


@asynccontextmanager
async def watched(answer: Answer, more: str = "", greeted: list[list[str]] | None = None) -> AsyncIterator[PrimaryPool]:
    """Yield what follows the primary that one sentinel tells of.

    Args:
        answer: what it tells.
        more: further options of `redis_url`.
        greeted: takes the commands that are no questions.
    """
    port = free_ports()
    settings = Settings(redis_url=f"redis://me:mine@127.0.0.1:{port}/0?sentinel=it{more}")
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, partial(_serve, answer, [] if greeted is None else greeted))
        async with open_redis(settings) as redis:
            pool = primary_pool_of(redis)
            assert pool is not None
            yield pool
        tasks.cancel_scope.cancel()


async def _serve(answer: Answer, greeted: list[list[str]], stream: anyio.abc.SocketStream) -> None:
    reader = hiredis.Reader(encoding="utf-8")
    async with stream:
        async for data in stream:
            reader.feed(data)
            while command := reader.gets():
                if command[0] != "SENTINEL":
                    greeted.append(command)
                await stream.send(_reply(answer, command))


def _reply(answer: Answer, command: list[str]) -> bytes:
    if command[0] != "SENTINEL":
        return b"+OK\r\n"
    told = answer(command[1])
    if told is None:
        return b"-ERR No such master with that name\r\n" if command[1] == "MASTER" else b"*-1\r\n"
    (host, port), epoch = told
    words = ["ip", host, "port", str(port), "config-epoch", str(epoch)] if command[1] == "MASTER" else [host, str(port)]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word.encode()) for word in words)


async def test_failover_between_two_answers() -> None:
    """The address of before is never taken for that of after, whichever of the two answers the failover comes between."""
    for before in range(5):
        asked: list[str] = []

        def answer(what: str, before: int = before, asked: list[str] = asked) -> tuple[Address, int]:
            asked.append(what)
            return (OLD, 1) if len(asked) <= before else (NEW, 2)

        async with watched(answer) as pool:
            with anyio.fail_after(10):
                while (address := await pool.address()) != NEW:
                    pool.primaries.doubt(address)
        assert len(asked) <= before + 4


async def test_middle_of_a_failover() -> None:
    """While its leader reconfigures the replicas, MASTER tells the new epoch of the old address, which is not believed."""
    over = False

    def answer(what: str) -> tuple[Address, int]:
        return (OLD, 2) if what == "MASTER" and not over else (NEW, 2)

    async with watched(answer) as pool:
        assert await pool.address() == NEW
        over = True
        pool.primaries.doubt(NEW)
        assert await pool.address() == NEW


async def test_unknown_name() -> None:
    """The error says which name no sentinel knows."""
    async with watched(lambda _: None) as pool:
        with pytest.raises(RedisConnectionError, match="no sentinel knows a primary called 'it'"):
            await pool.address()


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ("", []),
        ("&sentinel_password=word", [["AUTH", "word"]]),
        ("&sentinel_username=who&sentinel_password=word", [["AUTH", "who", "word"]]),
    ],
)
async def test_password_of_the_sentinels(more: str, shown: list[list[str]]) -> None:
    """They are shown their own, and never that of the primary."""
    greeted: list[list[str]] = []
    async with watched(lambda _: (OLD, 1), more, greeted) as pool:
        assert await pool.address() == OLD
    assert [command for command in greeted if command[0] in {"AUTH", "HELLO"}] == shown
    assert not any("mine" in command for command in greeted)
