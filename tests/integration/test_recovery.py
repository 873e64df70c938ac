"""router.collect.recovery on a real Redis and a real store: Redis forgets what it had, and what was stored goes out again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from router.collect.entries import Entry
from router.collect.intake import Intake
from router.redis_client import open_redis
from tests.collecting import Workshop
from tests.integration.site import Site
from tests.servers import EmbeddedValkey, wait_until

pytestmark = pytest.mark.anyio


async def _forget(site: Site, *keys: str) -> None:
    """Have Redis be another one, which does not know these keys."""
    for key in keys:
        await site.redis.delete(key)
    await site.redis.hset(site.keys(0).era(), mapping={"server": "before", "recovered": "none"})


async def test_what_left_out_with_redis_goes_out_again(site: Site) -> None:
    """Messages stored lately are appended anew, each target's by seq, and the heads stand again."""
    for number in range(5):
        await site.append(to="user:a,user:b", text=str(number), id=f"m{number}")
    await site.settle()
    await _forget(site, site.keys(0).out(), site.keys(0).seq("user:a"))
    await site.settle()
    await site.is_kept()
    assert len(await site.lines()) == 10


async def test_once_a_redis(site: Site) -> None:
    """The next owner on the same Redis appends nothing anew."""
    await site.append(to="user:a", text="1", id="m1")
    await site.settle()
    await _forget(site)
    await site.settle()
    await site.settle()
    assert len(await site.lines()) == 2


async def test_what_is_older_than_the_window_stays(site: Site) -> None:
    """The window bounds what is appended anew."""
    await site.append(to="user:a", text="old", id="m1")
    await site.settle()
    (old,) = await site.stored()
    await site.documents.update_many({}, {"$set": {"stored_at": old["stored_at"] - timedelta(seconds=61)}})
    await site.append(to="user:a", text="new", id="m2")
    await site.settle()
    await _forget(site, site.keys(0).out())
    await site.settle()
    assert [line.rpartition('"text":')[2] for line in await site.lines()] == ['"new"}']


async def test_cut_off_anywhere_it_is_done_again(site: Site) -> None:
    """An owner that ends within a recovery leaves it due, and its successor does all of it."""
    for number in range(3):
        await site.append(to="user:a", text=str(number), id=f"m{number}")
    await site.settle()
    for part, method in (("intake", "begin_era"), ("intake", "append"), ("intake", "confirm_era")):
        for when in ("before", "after"):
            await _forget(site, site.keys(0).out())
            await site.append(to="user:a", text="more", id=f"{method}-{when}")
            assert await site.cut_off(part, method, when)
            await site.settle()
            await site.is_kept()


async def test_a_primary_that_comes_back_after_another_served(site: Site, tmp_path: Path) -> None:
    """It was cut off or frozen and never a replica: it comes back under its old name, with its old heads. They do not count."""
    await site.append(to="user:a", text="1", id="m1")
    await site.settle()
    with EmbeddedValkey(tmp_path) as other, other.client() as promoted:
        promoted.replicaof("127.0.0.1", urlsplit(site.settings.redis_url).port)
        wait_until(lambda: promoted.info("replication").get("master_link_status") == "up", "the replica has all")
        promoted.replicaof("NO", "ONE")
        settings = site.settings.model_copy(update={"redis_url": other.url})
        async with open_redis(settings) as redis:
            there = Workshop(redis, site.inbox, settings, site.eras)
            await there.append(to="user:a", text="2", id="m2")
            await there.settle()
    await site.append(to="user:a", text="3", id="m3")
    await site.settle()
    _, second, third = sorted(await site.stored(), key=lambda document: int(document["seq"]))
    places = [line.split(" ")[1:3] for line in await site.lines()]
    assert places[-1] == [str(second["seq"]), str(third["seq"])]
    assert str(second["seq"]) in [seq for _, seq in places[:-1]]


class _Changing(Intake):
    """An intake behind whose back Redis becomes another one, once, between taking and placing."""

    def __init__(self, site: Site) -> None:
        super().__init__(site.redis, site.keys(0), site.settings)
        self._site = site
        self._changed = False

    async def take(self, held: str, start: str) -> list[Entry]:
        """Take, and have Redis forget."""
        entries = await super().take(held, start)
        if entries and not self._changed:
            self._changed = True
            await _forget(self._site, self._site.keys(0).out())
            await self._site.redis.hset(self._site.keys(0).seq("user:a"), "handed", "1")
        return entries


async def test_redis_changes_behind_an_owners_back(site: Site) -> None:
    """The owner finds out when it asks for places: it recovers the shard first, and places behind what MongoDB has."""
    await site.append(to="user:a", text="1", id="m1")
    await site.settle()
    (first,) = await site.stored()
    await site.append(to="user:a", text="2", id="m2")
    await site.run_until_cut(site.owner(intake=_Changing(site)))
    await site.is_kept()
    old, new = await site.lines()
    assert old.split(" ")[2] == new.split(" ")[1] == str(first["seq"])
