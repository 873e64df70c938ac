"""router.api.messages over real HTTP, a real Redis and a real store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx
import pytest

from router.api.app import Stores, api_app
from router.api.append.post import Append
from router.api_keys.ring import Keyring
from router.cursors import CursorKey, Cursors
from router.http.server import serve_http
from router.later import Later
from router.mongo_client import open_mongo
from router.ops import Health
from router.redis_client import open_redis
from router.subscriptions import Subscriptions
from router.trace import TraceEvent, Tracer
from tests.integration.site import Site
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

KEY = "the-key"


class Api:
    """The API of a site, and the cursors beside it."""

    def __init__(self, site: Site, url: str, cursors: Cursors) -> None:
        self.site = site
        self.cursors = cursors
        self._client = httpx.AsyncClient(base_url=url, trust_env=False)

    async def get(self, message_id: str, key: str = KEY) -> httpx.Response:
        """Ask for a message."""
        return await self._client.get(f"/v1/messages/{message_id}", headers={"authorization": f"Bearer {key}".strip()})

    async def problem(self, message_id: str, status: int, **more: str) -> str:
        """Ask for a message that is refused with this status; return the detail."""
        answer = await self.get(message_id, **more)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        detail: str = answer.json()["detail"]
        return detail

    async def aclose(self) -> None:
        """Ask nothing more."""
        await self._client.aclose()


async def _serving(site: Site, **changes: Any) -> AsyncIterator[Api]:  # noqa: ANN401 - settings
    settings = site.settings.model_copy(update={"api_key": KEY} | changes)
    port, stop = free_ports(), anyio.Event()
    async with open_mongo(settings) as mongo, open_redis(settings) as redis, anyio.create_task_group() as tasks:
        cursors = Cursors(mongo, settings)
        stores = Stores(redis, site.inbox, cursors, Subscriptions(mongo, settings), Later(mongo, settings))
        app = api_app(settings, Health(), stores, Append(redis, site.inbox, settings), Keyring(settings.api_key))
        await tasks.start(serve_http, app, "127.0.0.1", port, stop)
        api = Api(site, f"http://127.0.0.1:{port}", cursors)
        yield api
        await api.aclose()
        stop.set()


@pytest.fixture
async def api(site: Site) -> AsyncIterator[Api]:
    """Yield the API of one shard."""
    async for api in _serving(site):
        yield api


async def test_stored_message(api: Api) -> None:
    """Each of its targets with seq and times, what was carried along and whom it passes by; devices where there are any."""
    more = {"traceparent": "00-ab", "x-tenant": "t", "exclude": "device:a,phone"}
    await api.site.append(to="user:b,user:a,all", text="hi", id="a/b:c", **more)
    await api.site.append(to="user:a", text="another", id="another")
    await api.site.settle()
    answer = await api.get("a/b:c")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    found = answer.json()
    assert (found["id"], "trace" in found) == ("a/b:c", False)
    assert [target["to"] for target in found["targets"]] == ["all", "user:a", "user:b"]
    documents = {one["target"]: one for one in await api.site.stored() if one["id"] == "a/b:c"}
    for target in found["targets"]:
        document = documents[target["to"]]
        assert (target["state"], target["seq"]) == ("stored", document["seq"])
        assert datetime.fromisoformat(target["stored_at"]) == document["stored_at"]
        assert datetime.fromisoformat(target["expires_at"]) == document["expires_at"]
        assert target["carried"] == {"traceparent": "00-ab", "x-tenant": "t"}
        assert target["exclude"] == "device:a,phone"
    assert ["acked" in target for target in found["targets"]] == [False, True, True]


async def test_devices_that_have_acknowledged(api: Api) -> None:
    """Whose cursor is at the message or behind it; who began behind it is not told of, nor is anybody else's device."""
    await api.site.append(to="user:a", text="hi", id="m")
    await api.site.settle()
    (document,) = await api.site.stored()
    seq = int(document["seq"])

    def key(device: str, user: str = "a") -> CursorKey:
        return CursorKey(user, device, "user:a")

    await api.cursors.begin({key("tablet"): seq - 5, key("phone"): seq - 5, key("new"): seq, key("stranger", "a2"): 0})
    await api.cursors.advance({key("phone"): seq, key("watch"): seq + 7, CursorKey("a", "other", "all"): seq + 9})
    (target,) = (await api.get("m")).json()["targets"]
    assert [(one["device"], one["cursor"]) for one in target["acked"]] == [("phone", seq), ("watch", seq + 7)]
    assert [(one["device"], one["cursor"]) for one in target["not_acked"]] == [("tablet", seq - 5)]
    seen_at = datetime.fromisoformat(target["acked"][0]["seen_at"])
    assert abs(seen_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_expired_message(api: Api) -> None:
    """It is told as long as its document stands, and so that it is over."""
    await api.site.append(to="user:a", text="hi", id="m", ttl="60")
    await api.site.settle()
    await api.site.documents.update_one({"id": "m"}, {"$set": {"expires_at": datetime.now(UTC) - timedelta(seconds=1)}})
    (target,) = (await api.get("m")).json()["targets"]
    assert target["state"] == "expired"


async def test_trace_of_a_traced_message(api: Api) -> None:
    """All events, by time, with what each has to say."""
    await api.site.append(to="user:a", text="hi", id="m", trace="1", traceparent="00-ab")
    await api.site.settle()
    event = TraceEvent("m", "user:a", "delivered", 2**60, seq=5, session="s", device="phone")
    await Tracer(api.site.redis, api.site.settings).write("edge.1", [event])
    found = (await api.get("m")).json()
    assert [one["stage"] for one in found["trace"]] == ["appended", "stored", "delivered"]
    assert found["trace"][0]["traceparent"] == "00-ab"
    assert found["trace"][2] == {
        "to": "user:a", "stage": "delivered", "at_us": 2**60, "by": "edge.1", "seq": 5, "session": "s", "device": "phone",
    }  # fmt: skip


async def test_missing_message(api: Api) -> None:
    """404 says what a missing id may mean."""
    detail = await api.problem("nobody-knows", 404)
    for word in ("never appended", "not stored yet", "transient", "dead letter", "retention"):
        assert word in detail


async def test_id_of_an_entry(api: Api) -> None:
    """404 says that what XADD returned is no message's id; a message that has such an id is found all the same."""
    detail = await api.problem("1795360470695-0", 404)
    assert "XADD" in detail
    assert "field `id`" in detail
    await api.site.append(to="user:a", text="hi", id="1795360470695-0")
    await api.site.settle()
    assert (await api.get("1795360470695-0")).json()["id"] == "1795360470695-0"


async def test_dead_letter(api: Api) -> None:
    """404 names the letter and its reason where it is among the newest, be they many."""
    dead = api.site.keys(0).dead()
    await api.site.append(to="user:a", id="m")
    await api.site.append(to="user:a", text="hi", id="other")
    await api.site.settle()
    (entry_id, _), *_ = await api.site.redis.xrange(dead)
    for place in range(120):
        await api.site.redis.xadd(dead, {"reason": "none", "id": f"{place}"})
    for message_id, why in (("m", f"{entry_id.decode()} of {dead}: body: exactly one"), ("119", "")):
        assert (await api.problem(message_id, 404)).startswith(f"the message is a dead letter, {why}")


@pytest.mark.parametrize("shown", ["", "wrong", f"{KEY}x"])
async def test_api_key_is_needed(api: Api, shown: str) -> None:
    """401 for who does not show it, whatever is asked for."""
    assert "API key" in await api.problem("m", 401, key=shown)


async def test_no_key_set_opens_nothing(site: Site) -> None:
    """A service without an API key answers nobody."""
    async for api in _serving(site, api_key=""):
        assert "API key" in await api.problem("m", 401, key="")


async def test_id_against_the_rules(api: Api) -> None:
    """400 names the field."""
    assert "id:" in await api.problem("a%20b", 400)
    assert "id:" in await api.problem("x" * 129, 400)


async def test_outage_of_the_store(site: Site) -> None:
    """503 with a time to come again."""
    settings = site.settings.model_copy(update={"mongo_url": f"mongodb://127.0.0.1:{free_ports()}/?directConnection=true"})
    async with open_mongo(settings) as away:
        site.inbox = type(site.inbox)(away, settings)
        async for api in _serving(site):
            assert "MongoDB" in await api.problem("m", 503)
            assert (await api.get("m")).headers["retry-after"] == "2"


async def test_ids_are_looked_up_in_an_index(site: Site) -> None:
    """An id does not say its target, so it has an index of its own."""
    assert (await site.documents.index_information())["id"]["key"] == [("id", 1)]
