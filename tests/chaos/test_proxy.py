"""The proxy carries bytes faithfully, and does to them what it is asked to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
import pytest

from tests.chaos.proxy import BLACK_HOLE, CUT, HOST, Link, Trouble, reset_connection, together

pytestmark = pytest.mark.anyio

PATIENCE_S = 30.0
DELAY_MS = 100.0

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes, and close when the other side has."""
    with suppress(ConnectionResetError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()


@asynccontextmanager
async def server(talk: Talk = echo) -> AsyncIterator[int]:
    """Yield the port of a server."""
    listening = await asyncio.start_server(talk, HOST, 0)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


@asynccontextmanager
async def link(talk: Talk = echo) -> AsyncIterator[Link]:
    """Yield a link to a server."""
    async with server(talk) as port, Link("a>b", port) as between:
        yield between


async def call(between: Link, data: bytes) -> bytes:
    """Send, say that this was all, and return everything that comes back."""
    reader, writer = await asyncio.open_connection(HOST, between.port)
    try:
        writer.write(data)
        writer.write_eof()
        return await reader.read()
    except RuntimeError as exc:
        raise ConnectionResetError from exc  # so says uvloop when the reset has come before the write
    finally:
        writer.close()


async def hears_nothing(reader: asyncio.StreamReader) -> bool:
    """Tell whether nothing comes for a moment."""
    with anyio.move_on_after(0.1) as patience:
        await reader.read(1)
    return patience.cancelled_caught


async def test_everything_is_carried() -> None:
    """Bytes arrive whole and in order both ways, however many, and so does the end of file."""
    data = bytes(range(256)) * 20_000
    async with link() as between:
        with anyio.fail_after(PATIENCE_S):
            assert await call(between, data) == data
        assert between.carried_bytes == 2 * len(data)


async def test_cut_resets() -> None:
    """A cut resets the connections there are and those that are tried; afterwards new ones are carried."""
    async with link() as between:
        reader, writer = await asyncio.open_connection(HOST, between.port)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        between.suffer(CUT)
        with anyio.fail_after(PATIENCE_S), pytest.raises(ConnectionResetError):
            await reader.read(1)
        with anyio.fail_after(PATIENCE_S), pytest.raises(ConnectionResetError):
            await call(between, b"y")
        between.recover(CUT)
        assert await call(between, b"z") == b"z"
        writer.close()


async def test_black_hole_keeps_and_delivers() -> None:
    """In a black hole nothing arrives and nobody is told; when it is over everything does, on old connections and new ones."""
    async with link() as between:
        reader, writer = await asyncio.open_connection(HOST, between.port)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        between.suffer(BLACK_HOLE)
        writer.write(b"y")
        late_reader, late_writer = await asyncio.open_connection(HOST, between.port)
        late_writer.write(b"z")
        assert await hears_nothing(reader)
        assert await hears_nothing(late_reader)
        between.recover(BLACK_HOLE)
        with anyio.fail_after(PATIENCE_S):
            assert await reader.read(1) == b"y"
            assert await late_reader.read(1) == b"z"
        writer.close()
        late_writer.close()


async def test_delay() -> None:
    """A delayed link brings everything, in order, and later."""
    async with link() as between:
        between.suffer(Trouble(delay_ms=DELAY_MS))
        began_s = time.monotonic()
        with anyio.fail_after(PATIENCE_S):
            assert await call(between, b"slow") == b"slow"
        assert time.monotonic() - began_s >= 2 * DELAY_MS / 1000


async def test_closing_is_carried_along() -> None:
    """A server that resets its connection resets the client's, and none stays behind."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reset_connection(writer)

    async with link(hang_up) as between:
        with anyio.fail_after(PATIENCE_S):
            with pytest.raises(ConnectionResetError):
                await call(between, b"x")
            await between.close()
        assert not between.connections


async def test_nobody_behind_it() -> None:
    """When no process listens behind the link, whoever connects is reset."""
    async with server() as port:
        pass
    async with Link("a>nobody", port) as between:
        with anyio.fail_after(PATIENCE_S), pytest.raises(ConnectionResetError):
            await call(between, b"x")


async def test_leads_to_another_process() -> None:
    """The address stays and the process behind it changes; connections to the old one are reset."""

    async def name(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"new")
        writer.close()

    async with link() as between, server(name) as port:
        reader, writer = await asyncio.open_connection(HOST, between.port)
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        between.lead_to(port)
        with anyio.fail_after(PATIENCE_S):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
            assert await call(between, b"") == b"new"
        writer.close()


def test_troubles_together() -> None:
    """Troubles that overlap add up, and each can end before the other."""
    slow, narrow = Trouble(delay_ms=10, jitter_ms=5), Trouble(delay_ms=1, bytes_per_s=100)
    assert together([slow, narrow, CUT]) == Trouble(cut=True, delay_ms=11, jitter_ms=5, bytes_per_s=100)
    assert together([]) == Trouble()


def test_pause() -> None:
    """A piece waits for the delay, its share of the jitter and its length on a narrow line."""
    assert Trouble(delay_ms=10, jitter_ms=10, bytes_per_s=1_000).pause_s(500, luck=0.5) == pytest.approx(0.515)
    assert Trouble().pause_s(500, luck=1.0) == 0
