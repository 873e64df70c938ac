"""POST /v1/messages while Redis or MongoDB is away or full: 503, and nothing that cannot be repeated."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.integration.append_site import AppendSite, appending_to, collecting
from tests.integration.site import Site, open_site
from tests.servers import EmbeddedValkey, Store

pytestmark = pytest.mark.anyio

HI: dict[str, Any] = {"to": "user:a", "text": "hi"}


class Servers:
    """Servers that a test may take away, and the API before them."""

    def __init__(self, valkey: EmbeddedValkey, store: Store, api: AppendSite) -> None:
        self.valkey = valkey
        self.store = store
        self.api = api


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[Servers]:
    """Yield servers of the test's own."""
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(EmbeddedValkey(tmp_path / "valkey"))
        store = stack.enter_context(Store(tmp_path / "store"))
        site = await open_site(stack, valkey.url, store.url)
        yield Servers(valkey, store, await stack.enter_async_context(appending_to(site, redis_timeout_s=0.5)))


async def _unavailable(api: AppendSite, what: object, **headers: str) -> str:
    """Send what meets 503; return the detail."""
    answer = await api.post(what, **headers)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2"), answer.text
    detail: str = answer.json()["detail"]
    return detail


async def test_redis_is_away(servers: Servers) -> None:
    """503 for one and for many, and all is well when it is back."""
    await servers.api.accepted(HI)
    servers.valkey.kill()
    assert "Redis" in await _unavailable(servers.api, HI)
    assert "Redis" in await _unavailable(servers.api, [HI] * 2_000)
    servers.valkey.start()
    await servers.api.accepted(HI)


async def test_answer_of_redis_that_is_lost(servers: Servers) -> None:
    """503 may come although all was appended; sent again under the same key it is there once."""
    await servers.api.accepted(HI)
    servers.valkey.pause()
    assert "Redis" in await _unavailable(servers.api, [HI, HI], idempotency_key="k")
    servers.valkey.resume()
    await servers.api.results([HI, HI], idempotency_key="k")
    await servers.api.site.settle()
    assert sorted(one["id"] for one in await servers.api.site.stored())[-2:] == ["k-0", "k-1"]
    assert len(await servers.api.site.stored()) == 3


async def test_paused_redis_holds_nobody_longer_than_its_timeout(servers: Servers) -> None:
    """Requests that wait for their turn are counted too."""
    servers.valkey.pause()
    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(_unavailable, servers.api, HI)
    assert time.monotonic() - began < 20 * 0.5  # one after the other
    servers.valkey.resume()


async def test_full_memory(servers: Servers) -> None:
    """503 says that Redis is out of memory."""
    with servers.valkey.client() as redis:
        used = redis.info("memory")["used_memory"]
        redis.config_set("maxmemory", used // 2)
        assert "memory" in await _unavailable(servers.api, HI)
        assert "memory" in await _unavailable(servers.api, [HI, HI | {"transient": True}])
        redis.config_set("maxmemory", 0)
    await servers.api.accepted(HI)


async def test_high_water(site: Site) -> None:
    """While as many wait as may, 503; a longer array is taken up to there, and each item says so."""
    async with appending_to(site, api_in_max=10) as api:
        results = await api.results([HI | {"id": f"m{n}"} for n in range(3_000)])
        taken = [one["id"] for one in results if "entry" in one]
        assert 10 <= len(taken) < 3_000
        assert taken == [f"m{n}" for n in range(len(taken))]
        left = results[len(taken) :]
        assert {one["problem"]["status"] for one in left} == {503}
        assert [one["id"] for one in left] == [f"m{n}" for n in range(len(taken), 3_000)]
        assert "entries wait in" in await _unavailable(api, HI)
        # The other lane has its own mark.
        await api.accepted(HI | {"transient": True})
        await site.settle()
        await api.accepted(HI)


async def test_mongodb_is_away(servers: Servers) -> None:
    """What cannot have been stored before is appended all the same; of an id that the client chose nobody can tell."""
    servers.store.kill()
    await servers.api.accepted(HI)
    assert "MongoDB" in await _unavailable(servers.api, HI | {"id": "m"})
    results = await servers.api.results([HI | {"transient": True, "id": "t"}, HI | {"id": "m"}, HI, HI | {"id": "n"}])
    assert [one.get("problem", {}).get("status") for one in results] == [None, 503, 503, 503]


async def test_mongodb_is_away_for_a_long_array(servers: Servers) -> None:
    """It is asked once, and not for each part."""
    servers.store.kill()
    began = time.monotonic()
    assert "MongoDB" in await _unavailable(servers.api, [HI] * 3_000, idempotency_key="k")
    assert time.monotonic() - began < 2 * servers.api.site.settings.mongo_timeout_s + 2


async def test_mongodb_goes_away_while_somebody_waits(servers: Servers) -> None:
    """202 when the time is over: appended it is."""
    servers.store.pause()
    answer = await servers.api.post(HI, prefer="wait=1")
    assert (answer.status_code, answer.headers["preference-applied"]) == (202, "wait=1")
    servers.store.resume()


async def test_mongodb_comes_back_while_somebody_waits(servers: Servers) -> None:
    """201 all the same."""
    answers: list[int] = []

    async def post() -> None:
        answers.append((await servers.api.post(HI, prefer="wait=30")).status_code)

    servers.store.kill()
    async with collecting(servers.api.site), anyio.create_task_group() as tasks:
        tasks.start_soon(post)
        await anyio.sleep(0.5)  # some looks in vain; none of them can be seen from outside
        servers.store.start()
    assert answers == [201]
