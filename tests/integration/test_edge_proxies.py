"""An edge behind balancers, on real sockets: whose connection it is counts, by the words of those who are trusted alone."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from prometheus_client import REGISTRY
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidMessage

from edge import usual_request
from router.http.server import serve_http
from router.metrics import CONNECTIONS
from tests.certificates import Authority
from tests.integration.edges import PROMPT_S, Edge, eventually, running_edge, usual_requests
from tests.servers import EmbeddedValkey, free_ports
from tests.unit.edge.test_preface import FOUR, binary

pytestmark = pytest.mark.anyio

BALANCER: Final = "127.0.0.2"
LINE: Final = b"PROXY TCP4 %s 192.0.2.1 56324 443\r\n"

Run = Callable[..., Any]


@pytest.fixture(autouse=True, params=["short", "long"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have all requests be read the short way, as those of a websockets client are, or all of them by websockets."""
    if request.param == "long":
        monkeypatch.setattr(usual_request, "read", lambda _data: None)
        yield "long"
        return
    taken = usual_requests(monkeypatch)
    yield "short"
    assert all(taken)


@pytest.fixture
def run(valkey_server: EmbeddedValkey, tmp_path: Path) -> Run:
    """Return what runs an edge that takes one connection of an address, and believes one balancer."""
    limits: dict[str, object] = {"edge_proxies": (BALANCER,), "connections_address_max": 1}
    return lambda **changes: running_edge(valkey_server.url, tmp_path, **limits | changes)


@asynccontextmanager
async def _open(
    edge: Edge, source: str = BALANCER, forwarded: str = "", preface: bytes = b"", trust: ssl.SSLContext | None = None
) -> AsyncIterator[ClientConnection]:
    """Yield a connection that comes from an address, with words of that about another."""
    peer = await anyio.to_thread.run_sync(_connect, edge.settings.edge_port, source, preface)
    headers = {"Authorization": f"Bearer {edge.token('alice')}"} | ({"X-Forwarded-For": forwarded} if forwarded else {})
    url = edge.url if trust is None else edge.url.replace("ws://", "wss://")
    async with connect(url, sock=peer, ssl=trust, additional_headers=headers, ping_interval=None, proxy=None) as connection:
        yield connection


def _connect(port: int, source: str, preface: bytes) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port), source_address=(source, 0), timeout=PROMPT_S)
    peer.sendall(preface)
    return peer


async def _is_in(connection: ClientConnection) -> bool:
    """Tell whether a connection is let in; one that is not was one too many of its address."""
    try:
        with anyio.fail_after(PROMPT_S):
            return '"welcome"' in str(await connection.recv())
    except ConnectionClosed:
        assert connection.close_code == 4007
        return False


def _unannounced() -> float:
    return REGISTRY.get_sample_value("pushway_handshakes_failed_total", {"reason": "unannounced"}) or 0.0


async def test_clients_behind_a_balancer_are_counted_by_their_own_addresses(run: Run) -> None:
    """Of one address one; what a client sends of its own stands further left and is not read."""
    async with run() as edge:
        before = CONNECTIONS._value.get()
        async with _open(edge, forwarded="203.0.113.7") as first, _open(edge, forwarded="203.0.113.8") as other:
            assert await _is_in(first)
            assert await _is_in(other)
            async with _open(edge, forwarded="198.51.100.1, 203.0.113.7") as second:
                assert not await _is_in(second)
        await eventually(lambda: CONNECTIONS._value.get() == before)
        async with _open(edge, forwarded="203.0.113.7") as again:
            assert await _is_in(again)


async def test_nobody_else_is_believed(run: Run) -> None:
    """A client that connects by itself is counted as what it is, whatever it says."""
    async with run() as edge, _open(edge, "127.0.0.3", "203.0.113.7") as first:
        assert await _is_in(first)
        async with _open(edge, "127.0.0.3", "203.0.113.8") as second:
            assert not await _is_in(second)


@pytest.mark.parametrize("sealed", [False, True], ids=["plain", "tls"])
async def test_the_proxy_protocol_tells_whose_connection_it_is(run: Run, tmp_path: Path, *, sealed: bool) -> None:
    """In both versions, ahead of TLS; the header of a client that it names is not heard."""
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1")
    tls = {"edge_tls_cert_file": str(pair.cert), "edge_tls_key_file": str(pair.key)} if sealed else {}
    trust = authority.trust if sealed else None
    async with run(edge_proxy_protocol=True, **tls) as edge:
        open_as = partial(_open, edge, trust=trust)
        async with open_as(preface=binary(0x21, 0x11, FOUR)) as first, open_as(preface=LINE % b"203.0.113.8") as other:
            assert await _is_in(first)
            assert await _is_in(other)
            async with open_as(preface=LINE % b"203.0.113.7", forwarded="198.51.100.1") as second:
                assert not await _is_in(second)


async def test_a_balancer_behind_a_balancer(run: Run) -> None:
    """Where the PROXY protocol names another one that is trusted, what that writes into the header counts."""
    async with run(edge_proxy_protocol=True, edge_proxies=(BALANCER, "10.0.3.0/28")) as edge:
        said = LINE % b"10.0.3.4"
        async with _open(edge, forwarded="203.0.113.7", preface=said) as first:
            assert await _is_in(first)
            async with _open(edge, forwarded="203.0.113.7", preface=said) as second:
                assert not await _is_in(second)
            async with _open(edge, forwarded="203.0.113.8", preface=said) as third:
                assert await _is_in(third)


async def test_a_check_of_the_balancer_is_its_own(run: Run) -> None:
    """LOCAL: the connection is the balancer's, and is served as any."""
    async with run(edge_proxy_protocol=True) as edge, _open(edge, preface=binary(0x20, 0, b"")) as check:
        assert await _is_in(check)


async def test_a_balancer_that_announces_nothing_is_cut_off(run: Run) -> None:
    """Its clients would all count as one; an operator finds it by the figure. Others connect without, as before."""
    async with run(edge_proxy_protocol=True) as edge:
        before = _unannounced()
        with pytest.raises((InvalidMessage, OSError)):
            async with _open(edge):
                pass
        await eventually(lambda: _unannounced() == before + 1)
        async with _open(edge, "127.0.0.3") as direct:
            assert await _is_in(direct)


async def test_an_announcement_has_its_time(run: Run) -> None:
    """Who stops in the middle of it counts as anybody, and is cut off when the time for the handshake is over."""
    async with run(edge_proxy_protocol=True, connect_timeout_s=1.0) as edge:
        before = CONNECTIONS._value.get()
        with await anyio.to_thread.run_sync(_connect, edge.settings.edge_port, BALANCER, LINE[:9]):
            await eventually(lambda: CONNECTIONS._value.get() == before + 1)
            await eventually(lambda: CONNECTIONS._value.get() == before)


async def test_who_judges_tokens_is_told_the_clients_address(run: Run) -> None:
    """With auth_by http, by the header and by the PROXY protocol; of IPv6 the whole address."""
    told: list[str] = []

    async def judge(request: Request) -> JSONResponse:
        told.append((await request.json())["address"])
        return JSONResponse({"active": False})

    port = free_ports()
    http: dict[str, Any] = {"auth_by": "http", "auth_callback_url": f"http://127.0.0.1:{port}/judge"}
    async with anyio.create_task_group() as tasks:
        app = Starlette(routes=[Route("/judge", judge, methods=["POST"])])
        await tasks.start(serve_http, app, "127.0.0.1", port, anyio.Event())
        for protocol in (False, True):
            words = {"preface": b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n"} if protocol else {"forwarded": "2001:db8::7"}
            async with run(edge_proxy_protocol=protocol, **http) as edge, _open(edge, **words) as connection:
                with anyio.fail_after(PROMPT_S):
                    await connection.wait_closed()
                assert connection.close_code == 4500
        tasks.cancel_scope.cancel()
    assert told == ["2001:db8::7"] * 2
