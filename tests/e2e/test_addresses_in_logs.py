"""A token that somebody puts into an address, a cookie or a header of any service: it is in no log, and opens nothing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import anyio
import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from edge.client import SUBPROTOCOL
from router.auth.client import request_token
from tests.stack import Stack

CANARY: Final = "canary-4711"
QUERIES: Final = (f"token={CANARY}", f"access_token={CANARY}", f"since=1&token={CANARY}%20x", f"api_key={CANARY}")
HEADERS: Final = {
    "cookie": f"token={CANARY}; session={CANARY}",
    "authorization": f"Bearer {CANARY}",
    "referer": f"http://a/?token={CANARY}",
}
NO_HTTP: Final = (
    f"GET /v1/connect?token={CANARY}\r\n\r\n",
    f"GET /v1/connect?token={CANARY} HTTP/1.1\r\nhost: a\r\nbad header: {CANARY}\r\n\r\n",
    f"GET /v1/connect?token={CANARY} HTTP/9.9\r\nhost: a\r\n\r\n",
    f"GET /v1/connect?token={CANARY * 8_000} HTTP/1.1\r\nhost: a\r\n\r\n",
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a whole system that logs all it can."""
    settings = {"log_level": "debug", "log_repeats_max": 10_000, "connect_timeout_s": 0.5}
    with Stack(tmp_path_factory.mktemp("stack"), edges=1, settings=settings) as stack:
        yield stack


def _doors(stack: Stack) -> list[str]:
    """Return the address of every port that speaks HTTP."""
    edge = urlsplit(stack.edge_urls[0]).netloc
    ops = [stack[name].ops_url for name in ("auth", "collect", "dispatch", "edge-1")]
    return [f"http://127.0.0.1:{stack.settings.api_port}", stack.settings.auth_url, f"http://{edge}", *ops]


def _say(door: str, request: str) -> None:
    where = urlsplit(door)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=5) as raw, suppress(OSError):
        raw.sendall(request.encode())
        raw.recv(65_536)


def test_no_log_has_a_token_of_an_address(stack: Stack) -> None:
    """Of any service, at any port, whether it is a request or none, logged at debug."""
    for door in _doors(stack):
        for query in QUERIES:
            for path in ("/v1/connect", "/v1/users/alice", "/metrics", "/nothing"):
                httpx.get(f"{door}{path}?{query}", headers=HEADERS, trust_env=False)
        for request in NO_HTTP:
            _say(door, request)
    for query in QUERIES:
        address = f"{stack.edge_urls[0]}?{query}"
        with suppress(InvalidHandshake, ConnectionClosed), connect(address, subprotocols=[SUBPROTOCOL]) as ws:
            ws.recv(timeout=5)
    logs = {name: process.log.read_text(encoding="utf-8") for name, process in stack.processes.items()}
    assert [name for name, text in logs.items() if CANARY in text] == []
    assert "api_called" not in logs["collect"]


def test_edge_asks_for_no_cookie_and_reads_none(stack: Stack) -> None:
    """A good token in one lets nobody in, and the handshake sets none."""
    issued = anyio.run(request_token, stack.settings, "alice")
    headers = {"cookie": f"token={issued.token}; authorization=Bearer {issued.token}"}
    with connect(stack.edge_urls[0], subprotocols=[SUBPROTOCOL], additional_headers=headers) as ws:
        assert ws.response is not None
        assert "set-cookie" not in ws.response.headers
        with pytest.raises(ConnectionClosed) as closed:
            ws.recv(timeout=5)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code != 1000
