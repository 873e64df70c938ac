"""router.ops: what a service answers about itself."""

from __future__ import annotations

import httpx
import pytest

from router import metrics
from router.ops import Health, ops_app


def test_no_condition_means_not_ready() -> None:
    """A service that has stated nothing is still starting."""
    health = Health()
    assert not health.ready
    assert health.reasons == {}


def test_ready_when_every_condition_is_met() -> None:
    """One unmet condition is enough, and is named with what is missing."""
    health = Health()
    health.set("redis", ok=True)
    assert health.ready
    health.set("keys", ok=False, why="auth not reached")
    assert not health.ready
    assert health.reasons == {"keys": "auth not reached"}
    health.set("keys", ok=True)
    assert health.ready


def _client(health: Health) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=ops_app(health, metrics.registry_of("edge"))), base_url="http://ops"
    )


@pytest.mark.anyio
async def test_livez_ignores_conditions() -> None:
    """/livez is 200 while nothing is ready."""
    async with _client(Health()) as client:
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.anyio
async def test_readyz_follows_conditions() -> None:
    """/readyz is 503 with the reasons, then 200."""
    health = Health()
    health.set("redis", ok=False, why="Redis not reached")
    async with _client(health) as client:
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"ready": False, "reasons": {"redis": "Redis not reached"}}
        health.set("redis", ok=True)
        assert (await client.get("/readyz")).status_code == 200


@pytest.mark.anyio
async def test_metrics_are_prometheus_text() -> None:
    """/metrics is the text format with the service's figures in it, and no other's."""
    async with _client(Health()) as client:
        answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert "pushway_sessions " in answer.text
    assert "process_open_fds " in answer.text
    assert "pushway_accepted" not in answer.text
