"""On several hosts, whatever happens to a line between two of them: all that was accepted arrives, once and in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.chaos.checker import Verdict
from tests.hosts.lan import namespaces, why_not
from tests.hosts.stand import EDGES, REDIS, ROLES, WORKERS, Cut, Stand
from tests.servers import DebianRedis

if reason := why_not():
    pytest.skip(reason, allow_module_level=True)
if not DebianRedis.available():
    pytest.skip("no redis-server here", allow_module_level=True)

EDGE, WORKER, OTHER = EDGES[0], WORKERS[0], WORKERS[1]
CUT_S = 5.0
"""Longer than the leases, routes and timeouts of the stand's settings, but for the routes' own expiry."""

DELAY_MS = 200.0
LOSS = 0.2


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield the one stand of this module."""
    with Stand(tmp_path_factory.mktemp("hosts")) as stand:
        yield stand


@pytest.fixture(autouse=True)
def healed(stand: Stand) -> Iterator[None]:
    """Leave every line well, and everything ready."""
    yield
    stand.lan.heal()
    stand.wait_ready()


def felt_by(verdict: Verdict) -> int:
    """Return how many devices the one fault has delayed."""
    return len(verdict.recoveries[0].after_s)


def for_a_while() -> None:
    """Let it last."""
    time.sleep(CUT_S)


@pytest.mark.parametrize(
    ("name", "cut"), [("ea", Stand.cut_off), ("eb", Stand.deafen)], ids=["nothing gets through", "it hears nothing"]
)
def test_edge_cut_from_redis(stand: Stand, name: str, cut: Callable[[Stand, str], None]) -> None:
    """An edge that Redis cannot be reached from keeps its clients, and brings them what they missed when it can be again."""
    verdict = stand.play(name, Cut(f"edge: {cut.__name__}", EDGE, partial(cut, stand, EDGE), for_a_while))
    assert verdict.green, verdict.findings[:5]
    assert felt_by(verdict)
    assert not verdict.figures.cuts


@pytest.mark.parametrize(
    ("name", "cut"), [("wa", Stand.cut_off), ("wb", Stand.deafen)], ids=["nothing gets through", "it hears nothing"]
)
def test_worker_cut_from_redis(stand: Stand, name: str, cut: Callable[[Stand, str], None]) -> None:
    """A worker's shards pass to the other host; when it is back it does no harm, and gets its share of them again."""
    stand.wait_owners(*WORKERS)

    def meanwhile() -> None:
        stand.wait_owners(OTHER)
        for_a_while()

    verdict = stand.play(name, Cut(f"worker: {cut.__name__}", WORKER, partial(cut, stand, WORKER), meanwhile))
    assert verdict.green, verdict.findings[:5]
    stand.wait_owners(*WORKERS)
    assert any("lease_lost" in stand.log(role, WORKER) for role in ROLES)


def test_redis_cut_from_everybody(stand: Stand) -> None:
    """While nobody reaches the host of Redis and MongoDB nothing moves; when it is back all of it goes on."""
    verdict = stand.play("r", Cut("redis: isolated", REDIS, partial(stand.lan.isolate, REDIS), for_a_while))
    assert verdict.green, verdict.findings[:5]
    assert felt_by(verdict)


def test_long_line(stand: Stand) -> None:
    """Redis and MongoDB 200 ms away, each way: all of it is slower, and nothing else."""
    strike = partial(stand.lan.wire.set, out_ms=DELAY_MS, in_ms=DELAY_MS)
    verdict = stand.play("d", Cut("redis: far", REDIS, strike, for_a_while))
    assert verdict.green, verdict.findings[:5]


def test_bad_line(stand: Stand) -> None:
    """One in five of the frames that Redis and MongoDB send is lost, and nothing of what they are sent."""
    strike = partial(stand.lan.wire.set, out_loss=LOSS)
    verdict = stand.play("l", Cut("redis: lossy", REDIS, strike, for_a_while))
    assert verdict.green, verdict.findings[:5]


def test_nothing_is_left(tmp_path: Path) -> None:
    """After a failure in its midst none of a stand's processes and hosts is left."""
    stand = Stand(tmp_path)

    def fail() -> None:
        with stand:
            assert {host.namespace for host in stand.lan.hosts} <= set(namespaces())
            raise RuntimeError("in the midst")

    with pytest.raises(RuntimeError, match="in the midst"):
        fail()
    assert not {host.namespace for host in stand.lan.hosts} & set(namespaces())
    assert not any(psutil.pid_exists(process.pid) for process in (stand.lan.wire, *stand.processes))
