"""router.replies: whole replies, one by one, and an end to every wait."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from redis.exceptions import BusyLoadingError, InvalidResponse, NoScriptError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from router.replies import Replies

pytestmark = pytest.mark.anyio


class _Streams(asyncio.Protocol):
    """The protocol that the transport had before."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def eof_received(self) -> bool | None:
        self.heard.append("eof")
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append(f"lost {exc}")

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")


class _Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.protocol: asyncio.BaseProtocol = _Streams()

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self.protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


def _replies(timeout_s: float = 10.0) -> tuple[Replies, _Streams]:
    transport = _Transport()
    streams = transport.protocol
    assert isinstance(streams, _Streams)
    replies = Replies(transport, timeout_s)
    assert transport.protocol is replies
    return replies, streams


async def _next_after(replies: Replies, *reads: bytes) -> Any:  # noqa: ANN401 - a reply
    """Wait for a reply, and only then have the socket read."""
    found: list[Any] = []

    async def wait() -> None:
        found.append(await replies.next())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            for read in reads:
                await anyio.lowlevel.checkpoint()
                replies.data_received(read)
    return found[0]


async def test_replies_of_one_read() -> None:
    """Each is had for the asking, in order."""
    replies, _ = _replies()
    replies.data_received(b":1\r\n$1\r\na\r\n*-1\r\n")
    assert [await replies.next() for _ in range(3)] == [1, b"a", None]


async def test_reply_of_many_reads() -> None:
    """Who waits gets it when it is whole; what came with its end is the next."""
    replies, _ = _replies()
    assert await _next_after(replies, b"*2\r\n:1", b"\r\n$2\r\n", b"ab\r\n:7\r\n") == [1, b"ab"]
    assert await replies.next() == 7


async def test_errors_have_the_drivers_names() -> None:
    """The error of a command is a reply; that Redis is not ready yet is raised."""
    replies, _ = _replies()
    assert isinstance(await _next_after(replies, b"-NOSCRIPT No matching script.\r\n"), NoScriptError)
    replies.data_received(b"-LOADING Redis is loading\r\n")
    with pytest.raises(BusyLoadingError):
        await replies.next()


async def test_what_is_no_reply() -> None:
    """A server that speaks something else is told from a silent one."""
    replies, _ = _replies()
    with pytest.raises(ExceptionGroup) as raised:
        await _next_after(replies, b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert raised.group_contains(InvalidResponse)


async def test_silence() -> None:
    """It ends a wait in time, however many there were before."""
    replies, _ = _replies(timeout_s=0.05)
    assert await _next_after(replies, b":1\r\n") == 1
    for _ in range(2):
        with anyio.fail_after(10), pytest.raises(RedisTimeoutError, match=r"silent for 0\.05 s"):
            await replies.next()


@pytest.mark.parametrize("cause", [None, OSError("reset")])
async def test_lost_connection(cause: Exception | None) -> None:
    """Who waits is told; what came before is still had, and then everybody is told."""
    replies, streams = _replies()
    replies.data_received(b":1\r\n")
    replies.eof_received()
    replies.connection_lost(cause)
    assert await replies.next() == 1
    for _ in range(2):
        with pytest.raises(RedisConnectionError, match="closed"):
            await replies.next()
    assert streams.heard == ["eof", f"lost {cause}"]


async def test_lost_while_waited_for() -> None:
    """The wait ends at once, with the reason."""
    replies, _ = _replies()

    async def lose() -> None:
        await anyio.lowlevel.checkpoint()
        replies.connection_lost(OSError("reset by peer"))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lose)
        with anyio.fail_after(10), pytest.raises(RedisConnectionError, match="reset by peer"):
            await replies.next()


async def test_writing_stays_the_drivers() -> None:
    """It is told when the socket is full."""
    replies, streams = _replies()
    replies.pause_writing()
    replies.resume_writing()
    assert streams.heard == ["pause", "resume"]
