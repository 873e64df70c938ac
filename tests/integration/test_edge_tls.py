"""An edge behind a certificate, on real sockets: who is counted and cut off, what is shown, and what others are told."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from websockets.asyncio.client import connect

from edge.client import Client as PushClient
from router.metrics import CONNECTIONS, TLS_FAILED
from tests.certificates import Authority, Pair, shown
from tests.integration.edges import PROMPT_S, Edge, eventually, message, running_edge
from tests.servers import EmbeddedValkey

pytestmark = pytest.mark.anyio


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return the CA that clients here trust."""
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    """Return the edge's certificate."""
    return authority.issue("127.0.0.1", "localhost")


@pytest.fixture
async def edge(valkey_server: EmbeddedValkey, tmp_path: Path, pair: Pair) -> AsyncIterator[Edge]:
    """Yield an edge behind a certificate, which looks at its files all the time."""
    tls = {"edge_tls_cert_file": str(pair.cert), "edge_tls_key_file": str(pair.key), "tls_reload_s": 0.02}
    async with running_edge(valkey_server.url, tmp_path, connect_timeout_s=1.0, **tls) as edge:
        yield edge


def _url(edge: Edge) -> str:
    return edge.url.replace("ws://", "wss://")


async def _shown(edge: Edge, trust: ssl.SSLContext) -> bytes | None:
    return await anyio.to_thread.run_sync(shown, edge.settings.edge_port, trust)


async def test_messages_come_over_wss(edge: Edge, authority: Authority) -> None:
    """The Python client takes a context, where the CA is nobody's but ours; large ones and many come whole."""

    async def token() -> str:
        return edge.token("alice")

    heard: list[object] = []
    async with PushClient([_url(edge)], token, tls=authority.trust) as client, anyio.create_task_group() as tasks:

        async def listen() -> None:
            async for one in client:
                heard.append(one.body)
                if len(heard) == 50:
                    return

        tasks.start_soon(listen)
        await eventually(lambda: edge.routed("alice"))
        (node,) = await edge.routed("alice")
        bodies = ["x" * 60_000 if n % 10 == 0 else n for n in range(50)]
        await edge.publish(node, *(message("alice", n + 1, n, body) for n, body in enumerate(bodies)))
    assert heard == bodies


async def test_who_does_not_trust_the_ca_stays_out(edge: Edge) -> None:
    """And the edge counts it, without a word in the log."""
    failed = TLS_FAILED._value.get()
    with pytest.raises(ssl.SSLCertVerificationError):
        async with connect(_url(edge), proxy=None):
            pass
    await eventually(lambda: TLS_FAILED._value.get() == failed + 1)


async def test_a_new_certificate_is_shown_and_old_connections_go_on(edge: Edge, authority: Authority) -> None:
    """Of another kind of key, too: the old one is shown to nobody any more. An unfit pair changes nothing."""
    tls = authority.trust
    async with connect(_url(edge), ssl=tls, proxy=None, additional_headers=_header(edge)) as connection:
        await connection.recv()
        first = await _shown(edge, tls)
        new = authority.issue("127.0.0.1", "localhost", rsa=True)

        async def changed() -> bool:
            return await _shown(edge, tls) not in {None, first}

        await eventually(changed)
        second = await _shown(edge, tls)
        new.key.write_text("nonsense")
        await anyio.sleep(0.1)  # several looks, after which nothing is to have happened
        assert await _shown(edge, tls) == second
        await (await connection.ping())


async def test_silence_below_tls_is_cut_off(edge: Edge) -> None:
    """The time for the handshake counts from the socket on, so whoever never begins TLS holds a place no longer than others."""
    open_before = CONNECTIONS._value.get()
    with socket.create_connection(("127.0.0.1", edge.settings.edge_port)) as silent:
        silent.sendall(b"\x16\x03\x01")  # the begin of a hello
        await eventually(lambda: CONNECTIONS._value.get() == open_before + 1)
        await eventually(lambda: CONNECTIONS._value.get() == open_before)


async def test_handshakes_of_tls_are_counted(valkey_server: EmbeddedValkey, tmp_path: Path, authority: Authority) -> None:
    """With the one place of an address held by a silent socket, the next is told so (4007)."""
    pair = authority.issue("127.0.0.1")
    tls = {"edge_tls_cert_file": str(pair.cert), "edge_tls_key_file": str(pair.key)}
    async with running_edge(valkey_server.url, tmp_path, connections_address_max=1, connect_timeout_s=PROMPT_S, **tls) as edge:
        with socket.create_connection(("127.0.0.1", edge.settings.edge_port)):
            await eventually(lambda: CONNECTIONS._value.get() >= 1)
            async with connect(_url(edge), ssl=authority.trust, proxy=None, additional_headers=_header(edge)) as refused:
                await refused.wait_closed()
                assert refused.close_code == 4007


async def test_plain_bytes_are_told_what_is_spoken(edge: Edge) -> None:
    """A client that says ws:// to a port of wss:// reads why, and comes to an end at once."""
    async with await anyio.connect_tcp("127.0.0.1", edge.settings.edge_port) as plain:
        await plain.send(b"GET /v1/connect HTTP/1.1\r\nHost: h\r\n\r\n")
        with anyio.fail_after(PROMPT_S):
            answer = b"".join([piece async for piece in plain])
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"use https:// or wss://.\n")


async def test_tls_is_told_that_it_is_not_spoken(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """A client that says wss:// to a port of ws:// fails at once, and not when its time is over."""
    async with running_edge(valkey_server.url, tmp_path, connect_timeout_s=10 * PROMPT_S) as edge:
        with anyio.fail_after(PROMPT_S), pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"):
            await anyio.connect_tcp("127.0.0.1", edge.settings.edge_port, tls=True)
        async with await anyio.connect_tcp("127.0.0.1", edge.settings.edge_port) as raw:
            await raw.send(b"\x16\x03\x01\x02\x00\x01")
            with anyio.fail_after(PROMPT_S):
                assert b"speaks no TLS" in b"".join([piece async for piece in raw])


async def test_the_edge_says_that_it_is_reached_by_wss(edge: Edge, authority: Authority) -> None:
    """Where `edge_address` does not say otherwise."""
    async with connect(_url(edge), ssl=authority.trust, proxy=None, additional_headers=_header(edge)) as connection:
        await connection.recv()
        (node,) = await edge.routed("alice")
        assert await edge.redis.hget(edge.keys.info(node), "address") == f"wss://127.0.0.1:{edge.settings.edge_port}".encode()


def _header(edge: Edge) -> dict[str, str]:
    return {"Authorization": f"Bearer {edge.token('alice')}"}
