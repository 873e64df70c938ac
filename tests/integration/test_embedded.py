"""The servers that `pushway up` brings along keep what they acknowledged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pymongo import WriteConcern

from tests.servers import DebianRedis, EmbeddedValkey, Store

_SERVERS = [
    EmbeddedValkey,
    pytest.param(DebianRedis, marks=pytest.mark.skipif(not DebianRedis.available(), reason="no redis-server here")),
]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Yield a store of the test's own."""
    with Store(tmp_path / "store") as server:
        yield server


@pytest.mark.parametrize("kind", _SERVERS)
def test_redis_keeps_what_it_acknowledged_through_kill_9(kind: type[EmbeddedValkey], tmp_path: Path) -> None:
    """Every append that returned is there after SIGKILL and a restart on the same folder."""
    with kind(tmp_path / "redis") as server:
        with server.client() as redis:
            given = [redis.xadd("push:{0}:in", {"n": n}) for n in range(500)]
        server.kill()
        with server.start().client() as redis:
            assert [entry for entry, _ in redis.xrange("push:{0}:in")] == given


def test_store_keeps_journalled_writes_through_kill_9(store: Store) -> None:
    """Every insert acknowledged with `w: majority, j: true` is there after SIGKILL, each time anew."""
    durable = WriteConcern(w="majority", j=True)
    for round_ in range(3):
        with store.client() as client:
            inbox = client.pushway.get_collection("inbox", write_concern=durable)
            inbox.insert_many([{"_id": f"{round_} {n}"} for n in range(200)], ordered=False)
            inbox.insert_one({"_id": f"{round_} last"})
        store.kill()
        store.start()
    with store.client() as client:
        assert client.pushway.inbox.count_documents({}) == 3 * 201


def test_paused_server_does_not_answer_and_goes_on(tmp_path: Path) -> None:
    """A frozen server keeps its port, answers nothing, and is itself again when resumed."""
    with EmbeddedValkey(tmp_path / "redis") as server:
        server.pause()
        assert not server.answers()
        server.resume()
        assert server.answers()
