"""/metrics of every service, while messages go through: each figure of the path moves, where docs/metrics.md says it does."""

from __future__ import annotations

import re
from collections.abc import Iterator

import anyio
import httpx
import pytest

from router import metrics
from tests.e2e.audience import Audience
from tests.servers import wait_until
from tests.stack import API_KEY, Service, Stack

pytestmark = pytest.mark.anyio

SERVICES = {"auth": "auth", "collect": "collect", "dispatch": "dispatch", "edge-1": "edge", "edge-2": "edge"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield the whole system with two edges."""
    with Stack(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def _names(service: Service) -> set[str]:
    """Return the metrics that a service declares."""
    text = httpx.get(f"{service.ops_url}/metrics", trust_env=False).text
    return set(re.findall(r"^# TYPE (pushway_\w+) ", text, re.MULTILINE))


def test_each_service_shows_its_own(stack: Stack) -> None:
    """All that the page lists for it, and nothing else."""
    for name, service in SERVICES.items():
        # A type line has a counter's whole name.
        assert _names(stack[name]) == {metrics.describe(metric).name for metric in metrics.OF[service]}, name


async def test_path_is_seen_at_every_stage(stack: Stack) -> None:
    """What came in, was stored, waited, was published and written: in count, and in how long it took."""
    async with Audience(stack) as audience:
        ann = await audience.join("ann", 0)
        with stack.redis_client() as redis:
            for n in range(20):
                redis.xadd("push:{0}:in", {"to": "user:ann", "body": str(n)})
            redis.xadd("push:{0}:in", {"to": "nowhere", "body": "1"})
        await audience.until(lambda: len(ann.messages) == 20)
        edge, collect, dispatch = stack["edge-1"], stack["collect"], stack["dispatch"]
        assert edge.metric("pushway_sessions") == 1
    assert edge.metric("pushway_delivered_total") == 20
    assert edge.metric('pushway_tokens_checked_total{result="accepted"}') == 1
    assert edge.metric("pushway_probe_age_seconds") < 60
    assert collect.metric("pushway_accepted_total") == 20
    assert dispatch.metric("pushway_dispatched_total") == 20
    await anyio.to_thread.run_sync(wait_until, lambda: collect.metric('pushway_dead_total{source="in"}') == 1, "a dead letter")
    for service, stage in ((collect, "appended_to_stored"), (dispatch, "out_wait"), (edge, "appended_to_written")):
        count = service.metric(f'pushway_latency_seconds_count{{stage="{stage}"}}')
        assert 1 <= count <= 20
        assert service.metric(f'pushway_latency_seconds_sum{{stage="{stage}"}}') < 60 * count
    for service, batch, size in ((collect, "collect", 21), (dispatch, "dispatch", 20), (edge, "edge", 20)):
        assert service.metric(f'pushway_batch_size_sum{{stage="{batch}"}}') == size
    for service, call in ((collect, "append"), (dispatch, "dispatch"), (edge, "route_set")):
        assert service.metric(f'pushway_redis_seconds_count{{operation="{call}"}}') >= 1
    assert collect.metric('pushway_mongo_seconds_count{operation="insert"}') >= 1


def test_holder_tells_what_waits(stack: Stack) -> None:
    """The lease, and every stream of its role, within one look."""
    for service, role, streams in (("collect", "collect", ("in",)), ("dispatch", "dispatch", ("out", "fast"))):
        assert stack[service].metric(f'pushway_lease_held{{role="{role}",shard="0"}}') == 1
        for stream in streams:
            told = f'{{shard="0",stream="{stream}"}}'
            wait_until(lambda: stack[service].figure(f"pushway_stream_entries{told}") is not None, "a look")  # noqa: B023
            assert stack[service].metric(f"pushway_stream_oldest_seconds{told}") < 60
            assert stack[service].metric(f"pushway_stream_pending{told}") >= 0


def test_answers_are_counted_by_route(stack: Stack) -> None:
    """An id is in no label."""
    headers = {"authorization": f"Bearer {API_KEY}"}
    url = f"http://127.0.0.1:{stack.settings.api_port}/v1/messages/some-id"
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 404
    answered = 'pushway_http_requests_total{method="GET",route="/v1/messages/{id}",status="404"}'
    wait_until(lambda: stack["collect"].figure(answered) == 1, "the answer is counted")
    assert "some-id" not in httpx.get(f"{stack['collect'].ops_url}/metrics", trust_env=False).text
