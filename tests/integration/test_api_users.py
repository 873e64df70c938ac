"""router.api.users and router.api.nodes over real HTTP, a real Redis and a real store."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio
import httpx
import pytest

import router.api.users as answers
from router.api.app import api_app
from router.api.append.post import Append
from router.api.messages import Messages
from router.api.nodes import Nodes
from router.api.users import Users
from router.cursors import CursorKey, Cursors
from router.http.server import serve_http
from router.mongo_client import open_mongo
from router.ops import Health
from router.redis_client import open_redis
from router.shards import shard_of_id
from tests.integration.site import Site
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

KEY: Final = "the-key"
NODE: Final = "edge-1.a"


class Api:
    """The API of a site, and the cursors beside it."""

    def __init__(self, site: Site, url: str, cursors: Cursors) -> None:
        self.site = site
        self.cursors = cursors
        headers = {"authorization": f"Bearer {KEY}"}
        self.client = httpx.AsyncClient(base_url=url, trust_env=False, headers=headers)

    async def get(self, path: str, **query: object) -> Any:  # noqa: ANN401 - JSON
        """Return what stands at an address, which is there."""
        answer = await self.client.get(path, params={name: str(value) for name, value in query.items()})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
        return answer.json()

    async def refused(self, path: str, **query: object) -> Any:  # noqa: ANN401 - JSON
        """Return the problem of a request that breaks a rule."""
        answer = await self.client.get(path, params={name: str(value) for name, value in query.items()})
        assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json"), answer.text
        return answer.json()

    async def route(self, user: str, node: str, route_ms: int = 60_000, node_ms: int = 60_000) -> int:
        """Route a user to a node, as of now; return when the route expires."""
        keys, now_ms = self.site.keys(shard_of_id(user, self.site.settings.shards)), time.time_ns() // 1_000_000
        await self.site.redis.zadd(keys.route(user), {node: now_ms + route_ms})
        await self.site.redis.zadd(keys.nodes(), {node: now_ms + node_ms})
        return now_ms + route_ms


async def _serving(site: Site) -> AsyncIterator[Api]:
    settings = site.settings.model_copy(update={"api_key": KEY})
    port, stop = free_ports(), anyio.Event()
    async with open_mongo(settings) as mongo, open_redis(settings) as redis, anyio.create_task_group() as tasks:
        cursors = Cursors(mongo, settings)
        messages, users = Messages(redis, site.inbox, cursors, settings), Users(redis, site.inbox, cursors, settings)
        app = api_app(settings, Health(), Append(redis, site.inbox, settings), messages, users, Nodes(redis, settings))
        await tasks.start(serve_http, app, "127.0.0.1", port, stop)
        api = Api(site, f"http://127.0.0.1:{port}", cursors)
        yield api
        await api.client.aclose()
        stop.set()


@pytest.fixture
async def api(site: Site) -> AsyncIterator[Api]:
    """Yield the API of one shard."""
    async for api in _serving(site):
        yield api


@pytest.fixture
async def api_of_two(two_shards: Site) -> AsyncIterator[Api]:
    """Yield the API of two shards."""
    async for api in _serving(two_shards):
        yield api


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


async def test_messages_page_by_page(api: Api) -> None:
    """Each as it was stored, byte for byte, in the order of seqs, none twice and none left out."""
    bodies = ['{"z":1.0,"a":[1e400]}', '"ü"', "12345678901234567890", "null", "[]"]
    for body in bodies:
        await api.site.append(to="user:a,user:b", body=body)
    await api.site.settle()
    stored = sorted((one for one in await api.site.stored() if one["target"] == "user:a"), key=lambda one: one["seq"])
    raw = (await api.client.get("/v1/users/a/messages")).content.decode()
    assert raw == f'{{"user":"a","messages":[{",".join(one["frame"] for one in stored)}],"next":null}}'
    seqs, after = [], 0
    while after is not None:
        page = await api.get("/v1/users/a/messages", after=after, limit=2)
        assert len(page["messages"]) <= 2
        seqs += [message["seq"] for message in page["messages"]]
        after = page["next"]
    assert seqs == [one["seq"] for one in stored]


async def test_expired_messages_are_left_out(api: Api) -> None:
    """A page of them is empty, and says where to go on."""
    for text in ("old", "older", "new"):
        await api.site.append(to="user:a", text=text)
    await api.site.settle()
    stored = sorted(await api.site.stored(), key=lambda one: int(one["seq"]))
    over = {"$set": {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}}
    await api.site.documents.update_many({"seq": {"$lte": stored[1]["seq"]}}, over)
    page = await api.get("/v1/users/a/messages", limit=2)
    assert page == {"user": "a", "messages": [], "next": stored[1]["seq"]}
    page = await api.get("/v1/users/a/messages", after=page["next"], limit=2)
    assert (page["messages"], page["next"]) == ([json.loads(stored[2]["frame"])], None)


async def test_page_is_no_longer_than_its_bytes(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends behind the message that takes it past them."""
    monkeypatch.setattr(answers, "_PAGE_MAX_BYTES", 200)
    for _ in range(4):
        await api.site.append(to="user:a", text="x" * 60)
    await api.site.settle()
    page = await api.get("/v1/users/a/messages")
    assert len(page["messages"]) == 2
    assert len((await api.get("/v1/users/a/messages", after=page["next"]))["messages"]) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("after", "-1"), ("after", 2**53), ("after", "1e3"), ("after", "٣"), ("limit", 0), ("limit", 1001), ("limit", "")],
)
async def test_numbers_against_the_rules(api: Api, name: str, value: object) -> None:
    """400 names the parameter and what it takes."""
    problem = await api.refused("/v1/users/a/messages", **{name: value})
    assert problem["field"] == name
    assert "a whole number from" in problem["detail"]


async def test_user_against_the_rules(api: Api) -> None:
    """400 names the field."""
    for path in ("/v1/users/a%20b", "/v1/users/a%2Cb/messages", f"/v1/users/{'x' * 129}"):
        assert (await api.refused(path))["field"] == "user"


async def test_sessions_are_ended_where_they_are(api_of_two: Api) -> None:
    """202 with the nodes that were told: those of live routes, in the user's own shard."""
    api = api_of_two
    await api.route("a", NODE)
    await api.route("a", "edge-2.b", route_ms=-1)
    keys = api.site.keys(shard_of_id("a", 2))
    async with api.site.redis.pubsub() as pubsub:
        await pubsub.ssubscribe(keys.node_channel(NODE))
        answer = await api.client.delete("/v1/users/a/sessions")
        assert (answer.status_code, answer.json()) == (202, {"user": "a", "nodes": [NODE]})
        with anyio.fail_after(60):
            while (message := await pubsub.get_message(timeout=1.0)) is None or message["type"] != "smessage":
                pass
    assert message["data"].startswith(b'kicked - - - {"user":"a","code":4502,"reason":"')


async def test_nobody_is_there_to_be_kicked(api: Api) -> None:
    """That is as good."""
    answer = await api.client.delete("/v1/users/a/sessions")
    assert (answer.status_code, answer.json()) == (202, {"user": "a", "nodes": []})


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


@pytest.mark.parametrize("path", ["/v1/users/a", "/v1/users/a/messages", "/v1/nodes"])
async def test_api_key_is_needed(api: Api, path: str) -> None:
    """401 for who does not show it."""
    async with httpx.AsyncClient(base_url=api.client.base_url, trust_env=False) as stranger:
        assert (await stranger.get(path)).status_code == 401
        assert (await stranger.delete("/v1/users/a/sessions")).status_code == 401
