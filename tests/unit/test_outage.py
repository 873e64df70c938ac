"""router.outage: an outage is told once when it begins, and once when it is over or left."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY
from pymongo.errors import BulkWriteError
from structlog.testing import capture_logs

from router.ops import Health
from router.outage import Outages
from router.settings import Settings

SETTINGS = Settings(backoff_min_ms=1, backoff_max_ms=1)


def _waiting(server: str) -> float:
    return REGISTRY.get_sample_value("pushway_outages", {"server": server}) or 0.0


@pytest.mark.anyio
async def test_begin_and_end_are_told_once() -> None:
    """However often it is tried in between; and health says so meanwhile."""
    health = Health()
    with capture_logs() as lines:
        outages, before = Outages(health, SETTINGS, shard=3), _waiting("redis")
        for _ in range(20):
            await outages.wait("redis", ConnectionError("refused"))
        assert health.reasons == {"redis": "ConnectionError: refused"}
        assert _waiting("redis") == before + 1
        outages.over()
        outages.over()
    assert _waiting("redis") == before
    assert health.reasons == {}
    assert [(line["event"], line["server"], line["shard"]) for line in lines] == [
        ("outage_began", "redis", 3),
        ("outage_ended", "redis", 3),
    ]


@pytest.mark.anyio
async def test_an_outage_that_is_left_is_told_too() -> None:
    """Whoever gives up will not see the end: a begin without anything behind it would be looked into for nothing."""
    health = Health()
    with capture_logs() as lines:
        outages, before = Outages(health, SETTINGS), _waiting("mongo")
        await outages.wait("mongo", ConnectionError("refused"))
        outages.forget()
        outages.over()
    assert health.reasons == {}
    assert _waiting("mongo") == before
    assert [line["event"] for line in lines] == ["outage_began", "outage_left"]


@pytest.mark.anyio
async def test_readiness_quotes_no_document() -> None:
    """MongoDB's errors quote what was to be written; /readyz does not pass it on."""
    health = Health()
    with capture_logs():
        await Outages(health, SETTINGS).wait("mongo", BulkWriteError({"writeErrors": [{"code": 1, "op": {"frame": "hello"}}]}))
    assert "BulkWriteError" in health.reasons["mongo"]
    assert "hello" not in health.reasons["mongo"]
