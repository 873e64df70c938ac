"""The shipped configurations of balancers, run by Debian's HAProxy and nginx, with a real edge behind."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from router.http.server import serve_http
from router.ops import ops_app
from tests.balancers import HAPROXY, NGINX, Balancer, Behind, ComposedHAProxy, HAProxy, Nginx
from tests.certificates import Authority
from tests.integration.edges import PROMPT_S, Edge, eventually, message, running_edge, usual_requests
from tests.servers import EmbeddedValkey, free_ports

pytestmark = pytest.mark.anyio

KINDS = [
    pytest.param(HAProxy, id="haproxy", marks=pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")),
    pytest.param(ComposedHAProxy, id="compose", marks=pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")),
    pytest.param(Nginx, id="nginx", marks=pytest.mark.skipif(NGINX is None, reason="nginx is not installed")),
]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return the CA that clients here trust."""
    return Authority(tmp_path)


@pytest.fixture
async def edge(valkey_server: EmbeddedValkey, tmp_path: Path, kind: type[Balancer]) -> AsyncIterator[tuple[Edge, int]]:
    """Yield an edge that takes one connection of an address and believes its balancer, and the port of its /readyz."""
    settings = {"edge_proxies": ("127.0.0.1",), "edge_proxy_protocol": kind is HAProxy, "connections_address_max": 1}
    port, stop = free_ports(), anyio.Event()
    async with running_edge(valkey_server.url, tmp_path, **settings) as edge, anyio.create_task_group() as tasks:
        await tasks.start(serve_http, ops_app(edge.health), "127.0.0.1", port, stop)
        yield edge, port
        stop.set()


@pytest.fixture
async def balancer(
    edge: tuple[Edge, int], tmp_path: Path, kind: type[Balancer], authority: Authority
) -> AsyncIterator[Balancer]:
    """Yield a balancer in front of it."""
    balancer = kind(tmp_path / "balancer", {"edge-1": Behind(edge[0].settings.edge_port, edge[1])}, authority)
    balancer.start()
    yield balancer
    balancer.kill()


def _connect(balancer: Balancer, edge: Edge, authority: Authority, source: str = "127.0.0.5") -> connect:
    headers = {"Authorization": f"Bearer {edge.token('alice')}", "X-Forwarded-For": "203.0.113.7"}
    return connect(
        balancer.url,
        ssl=_trust(balancer, authority),
        additional_headers=headers,
        local_addr=(source, 0),
        ping_interval=None,
        proxy=None,
    )


def _trust(balancer: Balancer, authority: Authority) -> ssl.SSLContext | None:
    return authority.trust if balancer.pair else None


async def _welcome(connection: ClientConnection) -> None:
    with anyio.fail_after(PROMPT_S):
        assert '"welcome"' in str(await connection.recv())


@pytest.mark.parametrize("kind", KINDS)
def test_it_takes_its_configuration(kind: type[Balancer], tmp_path: Path, authority: Authority) -> None:
    """Without a warning."""
    balancer = kind(tmp_path / "balancer", {"edge-1": Behind(1, 2), "edge-2": Behind(3, 4)}, authority)
    done = subprocess.run(balancer.checking(), capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "warn" not in said.lower()


@pytest.mark.parametrize("kind", KINDS)
async def test_clients_come_through_and_count_by_their_own_addresses(
    edge: tuple[Edge, int], balancer: Balancer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages reach them, and who says to come from elsewhere does not count as that.

    What the balancer makes of a request is one that the edge reads the short way.
    """
    behind, _ = edge
    taken = usual_requests(monkeypatch)
    async with _connect(balancer, behind, authority) as first:
        await _welcome(first)
        (node,) = await behind.routed("alice")
        await behind.publish(node, message("alice", 1, 0, "through"))
        with anyio.fail_after(PROMPT_S):
            while '"through"' not in str(await first.recv()):
                pass
        async with _connect(balancer, behind, authority) as second:
            with anyio.fail_after(PROMPT_S):
                await second.wait_closed()
            assert second.close_code == 4007
        async with _connect(balancer, behind, authority, "127.0.0.6") as other:
            await _welcome(other)
    assert taken == [True] * 3


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_else_comes_through(edge: tuple[Edge, int], balancer: Balancer, authority: Authority) -> None:
    """There is the one path, and what would be another's is refused by the balancer."""
    behind, _ = edge
    for path in ("/", "/v1/connect/", "/metrics"):
        with pytest.raises(InvalidStatus, match="404"):
            async with connect(balancer.url.replace("/v1/connect", path), ssl=_trust(balancer, authority), proxy=None):
                pass
    async with _connect(balancer, behind, authority) as connection:
        await _welcome(connection)


@pytest.mark.parametrize("kind", KINDS[:2])
async def test_an_edge_that_is_not_ready_keeps_what_it_has_and_gets_no_more(
    edge: tuple[Edge, int], balancer: Balancer, authority: Authority
) -> None:
    """As while it drains, or hears nothing of Redis; once it is ready again clients come to it again."""
    assert isinstance(balancer, HAProxy)
    behind, _ = edge
    async with _connect(balancer, behind, authority) as connection:
        await _welcome(connection)
        behind.health.set("test", ok=False, why="the test says so")
        await eventually(lambda: balancer.states("edge-1")[-1:] == ["DOWN"])
        with pytest.raises(InvalidStatus, match="503"):
            async with _connect(balancer, behind, authority, "127.0.0.6"):
                pass
        await (await connection.ping())
        behind.health.set("test", ok=True)
        await eventually(lambda: balancer.states("edge-1")[-1:] == ["UP"])
        async with _connect(balancer, behind, authority, "127.0.0.6") as other:
            await _welcome(other)
