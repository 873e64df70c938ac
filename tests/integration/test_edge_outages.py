"""A whole edge when Redis goes, comes back, freezes, forgets or falls silent: sockets stay, and delivery goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from edge.deafness import CONDITION as PROBES
from tests.integration.edges import PROMPT_S, Client, Edge, eventually, message, running_edge, starting_edge
from tests.integration.forwarder import forwarding
from tests.servers import EmbeddedValkey

pytestmark = pytest.mark.anyio


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    """Yield a Valkey of the test's own, which it may stop."""
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


def figure(name: str, **labels: str) -> float:
    """Return one of the process' figures."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def reaches(edge: Edge, client: Client, node: str, user: str, seq: int, prev: int) -> None:
    """Publish a message until somebody hears it, as dispatch would, and see it arrive once."""
    with anyio.fail_after(PROMPT_S):
        while True:
            try:
                if await edge.routed(user) == [node] and await edge.publish(node, message(user, seq, prev)):
                    break
            except (OSError, ConnectionError):
                pass
            await anyio.sleep(0.01)
    assert await client.seqs(1) == [seq]


async def test_redis_killed_and_restarted(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """Sessions, sockets and readiness outlive Redis; a session that comes meanwhile is told to come again."""
    async with running_edge(valkey.url, tmp_path, redis_timeout_s=0.5) as edge, edge.session("alice") as (client, node):
        await reaches(edge, client, node, "alice", 11, 0)
        lost = figure("pushway_resubscribed_total", reason="lost")
        valkey.kill()
        await eventually(lambda: figure("pushway_resubscribed_total", reason="lost") == lost + 1)
        async with edge.open(edge.token("bob")) as newcomer:
            assert await newcomer.closed() == (4001, "overloaded: the route could not be written in time")
        assert edge.health.ready
        valkey.start()
        await reaches(edge, client, node, "alice", 12, 11)
        async with edge.session("bob") as (bob, _):
            await reaches(edge, bob, node, "bob", 1, 0)


async def test_redis_that_forgot_everything(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """Routes are written anew by the renewal that finds them gone, and the lapse is counted."""
    async with running_edge(valkey.url, tmp_path, route_ttl_ms=1_000) as edge, edge.session("alice") as (client, node):
        lapsed = figure("pushway_lapsed_routes_total")
        await edge.redis.flushall()
        await eventually(lambda: figure("pushway_lapsed_routes_total") == lapsed + 1)
        await reaches(edge, client, node, "alice", 11, 0)


async def test_what_was_missed_comes_after_all(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """After a loss the heads are compared, and what a session lacks is read from the inbox; so is a hole found live."""
    async with running_edge(valkey.url, tmp_path) as edge, edge.session("alice") as (client, node):
        await reaches(edge, client, node, "alice", 11, 0)
        behind, gaps = figure("pushway_sessions_behind_total"), figure("pushway_gaps_total")
        assert await edge.publish("nobody.1", message("alice", 12, 11)) == 0
        await edge.set_head("alice", 12)
        await edge.redis.client_kill_filter(_type="pubsub")
        assert await client.seqs(1) == [12]
        assert figure("pushway_sessions_behind_total") == behind + 1
        assert await edge.publish("nobody.1", message("alice", 13, 12)) == 0
        await edge.publish(node, message("alice", 14, 13))
        assert await client.seqs(2) == [13, 14]
        assert figure("pushway_gaps_total") == gaps + 1


async def test_a_redis_that_had_been_away(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """It does not know what was stored while another served, and its heads count until collect begins an era: then, anew."""
    async with running_edge(valkey.url, tmp_path, route_ttl_ms=1_000) as edge:
        await edge.set_head("alice", 11)
        await edge.publish("nobody.1", message("alice", 12, 11))
        async with edge.open(edge.token("alice"), since="11") as client:
            assert (await client.welcome())["seq"] == 11
            assert (await client.next())["type"] == "caught_up"
            await edge.begin_era(2)
            assert await client.seqs(1) == [12]


async def test_client_comes_back(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """With `since` it gets what it missed, in order, then `caught_up`, then what comes live; 0 is everything retained."""
    async with running_edge(valkey.url, tmp_path) as edge:
        first = int((time.time() - edge.settings.retention_s - 3_600) * 1_000_000)  # older than what is retained, as if kept
        await edge.publish("nobody.1", *(message("alice", first + n, first + n - 1) for n in range(500)))
        for since, head in ((0, first + 499), (first + 450, first + 500), (first + 501, first + 501)):
            async with edge.open(edge.token("alice"), since=str(since)) as client:
                node = (await client.welcome())["node"]
                if 0 < since < head:
                    assert await client.next() == {"type": "lost", "to": "user:alice", "from": since, "until": head}
                behind = max(since + 1, first)
                assert await client.seqs(head + 1 - behind) == list(range(behind, head + 1))
                assert await client.next() == {"type": "caught_up", "to": "user:alice", "seq": head}
                await edge.publish(node, message("alice", head + 1, head))
                assert await client.seqs(1) == [head + 1]


async def test_redis_frozen(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """A Redis that does not answer proves no deafness: the edge stays ready, and its subscription is kept."""
    probing = {"probe_quiet_ms": 100, "probe_timeout_ms": 200, "redis_timeout_s": 0.4}
    async with running_edge(valkey.url, tmp_path, **probing) as edge, edge.session("alice") as (client, node):
        subscribed = figure("pushway_resubscribed_total", reason="probe")
        valkey.pause()
        with anyio.move_on_after(1.5):
            await eventually(lambda: not edge.health.ready)
        assert edge.health.ready
        valkey.resume()
        await reaches(edge, client, node, "alice", 11, 0)
        assert figure("pushway_resubscribed_total", reason="probe") == subscribed


async def test_an_edge_that_hears_nothing(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """Redis answers and probes do not come back: the edge is unready, subscribes anew, and is ready once it hears."""
    async with forwarding(valkey.port) as forwarder:
        probing = {"probe_quiet_ms": 100, "probe_timeout_ms": 300}
        async with running_edge(forwarder.url, tmp_path, **probing) as edge, edge.session("alice") as (client, node):
            forwarder.deafen()
            await eventually(lambda: PROBES in edge.health.reasons)
            await eventually(lambda: edge.health.ready)
            await reaches(edge, client, node, "alice", 11, 0)


async def test_an_edge_that_may_not_subscribe(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """Redis answers and refuses its channels: the edge is unready, the log says why, and all is well once it may again."""
    probing = {"probe_quiet_ms": 100, "probe_timeout_ms": 300}
    async with running_edge(valkey.url, tmp_path, **probing) as edge, edge.session("alice") as (client, node):
        with capture_logs() as logs:
            await edge.redis.acl_setuser("default", enabled=True, reset_channels=True)
            await eventually(lambda: PROBES in edge.health.reasons)
            deaf_s = figure("pushway_probe_age_seconds")
            await edge.redis.acl_setuser("default", enabled=True, channels=["*"])
        kinds = [line["kind"] for line in logs if line["event"] == "subscription_lost"]
        assert kinds == ["ConnectionError", "NoPermissionError"]
        await eventually(lambda: edge.health.ready)
        assert deaf_s > 0.3
        await eventually(lambda: figure("pushway_probe_age_seconds") < 0.3)
        await reaches(edge, client, node, "alice", 11, 0)


async def test_redis_away_at_the_start(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """The edge waits for Redis."""
    valkey.kill()
    async with starting_edge(valkey.url, tmp_path) as edge:
        await eventually(lambda: "redis" in edge.health.reasons)
        valkey.start()
        await edge.ready()


async def test_stopped_while_it_waits_for_redis(valkey: EmbeddedValkey, tmp_path: Path) -> None:
    """An edge that never got to serve ends at once."""
    valkey.kill()
    async with starting_edge(valkey.url, tmp_path) as edge:
        await eventually(lambda: "redis" in edge.health.reasons)
        edge.stop.set()
        with anyio.fail_after(PROMPT_S):
            await edge.ended.wait()
