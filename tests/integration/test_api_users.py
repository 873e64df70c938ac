"""router.api.users and router.api.nodes over real HTTP, a real Redis and a real store."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import pytest

import router.api.users as answers
from router.cursors import CursorKey
from tests.integration.api_site import Api

pytestmark = pytest.mark.anyio

NODE: Final = "edge-1.a"


async def test_user_whom_nobody_knows(api: Api) -> None:
    """Any id is answered: nobody registers users."""
    assert await api.get("/v1/users/nobody") == {
        "user": "nobody", "online": False, "head": 0, "routes": [], "cursors": [], "more_cursors": False,
    }  # fmt: skip


async def test_user_who_is_online(api_of_two: Api) -> None:
    """Routes that have not lapsed, with their expiry; the head; cursors of all targets, and nobody else's."""
    api, user = api_of_two, "a/ü:1"
    expiry_ms = await api.route(user, NODE)
    await api.route(user, "edge-2.b", route_ms=-1)
    await api.route(user, "edge-3.c", route_ms=50_000, node_ms=-1)
    await api.site.append(to=f"user:{user}", text="hi")
    await api.site.settle()
    (document,) = await api.site.stored()
    seq = int(document["seq"])
    mine = {CursorKey(user, "phone", f"user:{user}"): seq, CursorKey(user, "phone", "all"): 7, CursorKey(user, "tab", "all"): 8}
    await api.cursors.advance({**mine, CursorKey(f"{user}2", "phone", "all"): 9})
    found = await api.get("/v1/users/a%2F%C3%BC%3A1")
    assert (found["user"], found["online"], found["head"], found["more_cursors"]) == (user, True, seq, False)
    assert [(route["node"], route["node_alive"]) for route in found["routes"]] == [(NODE, True), ("edge-3.c", False)]
    assert datetime.fromisoformat(found["routes"][0]["expires_at"]) == datetime.fromtimestamp(expiry_ms / 1000, UTC)
    cursors = {CursorKey(user, one["device"], one["target"]): one["seq"] for one in found["cursors"]}
    assert cursors == mine
    assert abs(datetime.fromisoformat(found["cursors"][0]["seen_at"]) - datetime.now(UTC)) < timedelta(minutes=1)


async def test_user_whose_node_is_dead_is_not_online(api: Api) -> None:
    """The route of a killed edge stands for a while, and says so."""
    await api.route("a", NODE, node_ms=-1)
    found = await api.get("/v1/users/a")
    assert (found["online"], [route["node_alive"] for route in found["routes"]]) == (False, [False])


async def test_head_of_a_user_whom_redis_has_forgotten(api: Api) -> None:
    """MongoDB's newest; likewise where the head is of another era."""
    await api.site.append(to="user:a", text="hi")
    await api.site.settle()
    (document,) = await api.site.stored()
    await api.site.redis.hset(api.site.keys(0).seq("user:a"), mapping={"era": "0", "handed": "5"})
    assert (await api.get("/v1/users/a"))["head"] == document["seq"]
    await api.site.redis.delete(api.site.keys(0).seq("user:a"))
    assert (await api.get("/v1/users/a"))["head"] == document["seq"]


async def test_no_more_cursors_than_can_be_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """That there are more is told."""
    monkeypatch.setattr(answers, "CURSORS_MAX", 2)
    await api.cursors.advance({CursorKey("a", f"d{n}", "user:a"): n for n in range(3)})
    found = await api.get("/v1/users/a")
    assert ([one["device"] for one in found["cursors"]], found["more_cursors"]) == (["d0", "d1"], True)


async def test_user_against_the_rules(api: Api) -> None:
    """400 names the field."""
    for path in ("/v1/users/a%20b", f"/v1/users/{'x' * 129}"):
        assert (await api.refused(path))["field"] == "user"


async def test_nodes_of_every_shard(api_of_two: Api) -> None:
    """By id; what no heartbeat tells any more is null, and one that a shard does not hear is not alive."""
    api, now_ms = api_of_two, time.time_ns() // 1_000_000
    info = {"address": "ws://h:1", "version": "0.1.0", "started": now_ms - 5_000, "sessions": 3, "state": "draining"}
    for shard, more_ms in enumerate((60_000, 30_000)):
        await api.site.redis.zadd(api.site.keys(shard).nodes(), {NODE: now_ms + more_ms})
        await api.site.redis.hset(api.site.keys(shard).info(NODE), mapping=info)
    await api.site.redis.zadd(api.site.keys(1).nodes(), {"edge-0.z": now_ms + 60_000})
    lost, found = (await api.get("/v1/nodes"))["nodes"]
    assert lost == {
        "id": "edge-0.z", "alive": False, "expires_at": None, "address": None, "version": None, "state": None,
        "sessions": None, "age_s": None,
    }  # fmt: skip
    assert datetime.fromisoformat(found.pop("expires_at")) == datetime.fromtimestamp((now_ms + 30_000) / 1000, UTC)
    assert 5 <= found.pop("age_s") < 60
    assert found == {
        "id": NODE, "alive": True, "address": "ws://h:1", "version": "0.1.0", "state": "draining", "sessions": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    "path", ["/v1/users/a", "/v1/users/a/messages", "/v1/topics/a", "/v1/topics/a/messages", "/v1/all/messages", "/v1/nodes"]
)
async def test_api_key_is_needed(api: Api, path: str) -> None:
    """401 for who does not show it."""
    async with httpx.AsyncClient(base_url=api.client.base_url, trust_env=False) as stranger:
        assert (await stranger.get(path)).status_code == 401
        assert (await stranger.delete("/v1/users/a/sessions")).status_code == 401
