"""router.forget over a real Redis and a real store: nothing is left of a person, and all is left of others."""

from __future__ import annotations

import time
from typing import Any, Final

import anyio
import pytest

import router.forget as forgetting
from router.cursor_cache import CursorCache
from router.cursors import CursorKey, Cursors
from router.forget import Forgetting, Forgotten
from router.later import Later
from router.lines import build_line
from router.shards import shard_of_id
from router.subscriptions import Subscriptions
from router.trace import TraceEvent, Tracer
from tests.collecting import Cut, Cutting
from tests.integration.edges import eventually
from tests.integration.site import Site

pytestmark = pytest.mark.anyio

USER: Final = "alice*[x]"
"""It looks like a pattern, and is none."""

OTHER: Final = f"{USER}2"
TARGET, OTHER_TARGET = f"user:{USER}", f"user:{OTHER}"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "_PAUSE_S", 0.01)


def _cursors(site: Site) -> Cursors:
    return Cursors(site.documents.database.client, site.settings)


def _subscriptions(site: Site) -> Subscriptions:
    return Subscriptions(site.documents.database.client, site.settings)


def _stores(site: Site) -> dict[str, object]:
    subscriptions = _subscriptions(site)
    return {
        "redis": site.redis,
        "inbox": site.inbox,
        "cursors": _cursors(site),
        "subscriptions": subscriptions,
        "later": site.later,
    }


async def _forget(site: Site, wait_s: float = 10.0, **parts: Any) -> Forgotten:  # noqa: ANN401 - stand-ins
    stores: dict[str, Any] = _stores(site) | parts
    return await Forgetting(**stores, settings=site.settings, user=USER).run(wait_s)


async def _content(redis: Any, key: bytes) -> str:  # noqa: ANN401 - the driver's replies
    kind = (await redis.type(key)).decode()
    read = {
        "hash": redis.hgetall,
        "string": redis.get,
        "stream": redis.xrange,
        "zset": lambda name: redis.zrange(name, 0, -1),
    }
    return f"{key!r} {await read[kind](key)!r}"


async def _mentions(site: Site, user: str) -> list[str]:
    """Return every key and document in which the user's name stands, and no longer one that begins with it."""
    keys = [await _content(site.redis, key) async for key in site.redis.scan_iter(match=f"{site.settings.prefix}:*")]
    database = site.documents.database
    documents = [str(one) for name in await database.list_collection_names() async for one in database[name].find({})]
    return [text for text in keys + documents if user in text.replace(OTHER, "")]


async def _no_owner(site: Site) -> None:
    """Have nobody hold a lease."""
    await site.redis.delete(*(site.keys(shard).lease(role) for shard in range(2) for role in ("collect", "dispatch")))


async def _litter(site: Site, user: str) -> None:
    """Leave something of a user wherever it can be."""
    target, redis = f"user:{user}", site.redis
    mine = site.keys(shard_of_id(user, site.settings.shards))
    cursors = {CursorKey(user, "phone", target): 5, CursorKey(user, "tablet", "all"): 6}
    await _cursors(site).advance(cursors)
    await CursorCache(redis, site.settings).advance(cursors)
    for topic in ("news", "sport"):
        await _subscriptions(site).add(user, topic)
    now_ms = time.time_ns() // 1_000_000
    await redis.zadd(mine.route(user), {"edge-1.dead": now_ms + 60_000, "edge-2.lapsed": now_ms - 1})
    await redis.zadd(mine.nodes(), {"edge-1.dead": now_ms - 1})
    await redis.hset(mine.on("edge-1.dead"), user, "phone")
    await redis.hset(mine.online(), user, "5")
    await redis.zadd(mine.leaving(), {user: now_ms + 60_000})
    await redis.xadd(mine.events(), {"event": "online", "user": user, "node": "edge-1.dead"})
    await redis.hset(mine.pending(), f"{target} left-behind", "5")
    for shard in range(site.settings.shards):
        keys = site.keys(shard)
        await redis.xadd(keys.intake(), {"to": target, "text": "not taken", "id": f"waiting-{shard}"})
        await redis.xadd(keys.fast(), {"to": target, "text": "fast"})
        await redis.xadd(keys.out(), {"line": build_line(target, None, None, None, "{}")})
        await redis.xadd(keys.dead(), {"reason": f"no {target}", "source": "s", "entry": "1-1", "to": f"{target},topic:t"})
        await redis.xadd(keys.dead(), {"reason": "no", "source": "s", "entry": "1-1", "line": f"{target} x"})
        await redis.xadd(keys.offline(), {"to": target, "seq": "5", "reason": "no_route", "frame": "{}"})
    await Tracer(redis, site.settings).write("w", [TraceEvent("m", target, "stored", 1)])


async def test_nothing_is_left_of_a_person(two_shards: Site) -> None:
    """In no key and in no collection; of one whose name begins alike everything is. A second run finds nothing."""
    site = two_shards
    for n in range(300):
        await site.append(n % 2, to=f"{TARGET},{OTHER_TARGET}", text="hi", id=f"m{n}")
    await site.settle()
    await _no_owner(site)
    for user in (USER, OTHER):
        await _litter(site, user)
    assert len(await _mentions(site, USER)) > 300
    before = await _of_other(site)
    done = await _forget(site)
    assert await _mentions(site, USER) == []
    assert await _of_other(site) == before
    assert (done.complete, done.left, done.nodes) == (True, (), ("edge-1.dead",))
    assert (done.messages, done.cursors, done.topics, done.routes) == (300, 2, 2, 2)
    assert done.entries == {"in": 2, "fast": 2, "out": 2, "dead": 2, "offline": 2, "trace": 1, "events": 2}
    # Lines that share an entry go alone.
    assert done.replaced["out"]
    assert {**done.replaced, "out": 0} == {"in": 0, "fast": 0, "out": 0, "dead": 2, "offline": 0, "trace": 0, "events": 0}
    again = await _forget(site)
    assert again == Forgotten(USER, True, (), 0, 0, 0, 0, 0, dict.fromkeys(done.entries, 0), dict.fromkeys(done.entries, 0))


async def _of_other(site: Site) -> tuple[int, ...]:
    """Count what there is of the other user."""
    redis, keys = site.redis, [site.keys(shard) for shard in range(2)]
    mine = keys[shard_of_id(OTHER, 2)]
    streams = [name(one) for one in keys for name in (type(one).intake, type(one).fast, type(one).out, type(one).dead)]
    texts = [await _content(redis, stream.encode()) for stream in streams]
    return (
        *(text.count(OTHER_TARGET) for text in texts),
        await redis.exists(mine.route(OTHER), mine.seq(OTHER_TARGET), mine.ack(OTHER)),
        int(await redis.hexists(mine.online(), OTHER)),
        int(await redis.hexists(mine.on("edge-1.dead"), OTHER)),
        int(await redis.zscore(mine.leaving(), OTHER)),
        (await _content(redis, mine.events().encode())).count(OTHER),
        await site.documents.count_documents({"target": OTHER_TARGET}),
        len(await _cursors(site).all_of_user(OTHER, 10)),
        len(await _subscriptions(site).topics_of(OTHER)),
    )


class Held:
    """An inbox whose next insert waits to be let go."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.reached, self.let_go = anyio.Event(), anyio.Event()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner one has
        return getattr(self._inner, name)

    async def insert(self, *documents: Any) -> Any:  # noqa: ANN401 - passed on
        """Store when it is let go."""
        self.reached.set()
        await self.let_go.wait()
        return await self.__getattr__("insert")(*documents)


class Watched:
    """A Redis that counts how often it is asked whether an entry for others too stands there still."""

    def __init__(self, inner: object) -> None:
        self._inner = inner
        self.asked = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner one has
        self.asked += name == "xrange"
        return getattr(self._inner, name)


async def test_message_in_hand_is_waited_for(site: Site) -> None:
    """A batch that was taken and not stored yet brings the person back; what comes of it is gone when the run ends."""
    held, redis = Held(site.inbox), Watched(site.redis)
    for to in (TARGET, f"{TARGET},{OTHER_TARGET}", OTHER_TARGET):
        await site.append(to=to, text="hi", id="m1" if to == TARGET else "m2" if OTHER_TARGET not in to else "m3")
    done: list[Forgotten] = []

    async def run() -> None:
        done.append(await _forget(site, redis=redis))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.owner(inbox=held).run, await site.lease())
        await held.reached.wait()
        tasks.start_soon(run)
        await eventually(lambda: redis.asked > 2)
        assert done == []
        held.let_go.set()
        await eventually(lambda: done)
        tasks.cancel_scope.cancel()
    assert (done[0].complete, done[0].messages) == (True, 2)
    assert await _mentions(site, USER) == []
    assert [one["target"] for one in await site.stored()] == [OTHER_TARGET]
    await site.nothing_is_left()


async def test_message_in_hand_that_stands_nowhere_is_waited_for(site: Site) -> None:
    """Its entry has been removed, and still the run ends only when its batch has."""
    held, done = Held(site.inbox), anyio.Event()
    await site.append(to=TARGET, text="hi", id="m1")

    async def run() -> None:
        assert (await _forget(site)).complete
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.owner(inbox=held).run, await site.lease())
        await held.reached.wait()
        assert not (await _forget(site, wait_s=0)).complete
        tasks.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        assert not done.is_set()
        held.let_go.set()
        await eventually(done.is_set)
        tasks.cancel_scope.cancel()
    assert await _mentions(site, USER) == []


async def test_entry_for_others_too_is_theirs_first(site: Site) -> None:
    """Without a collect it stays, and the run says so; when it has been taken, another run finishes."""
    await site.append(to=f"{TARGET},{OTHER_TARGET}", text="hi")
    first = await _forget(site, wait_s=0)
    (why,) = first.left
    assert (first.complete, "collect has to take them first" in why) == (False, True)
    assert USER not in why
    await site.settle()
    assert (await _forget(site)).complete
    assert await _mentions(site, USER) == []
    assert [one["target"] for one in await site.stored()] == [OTHER_TARGET]


async def test_entry_that_a_dead_collect_had_taken(site: Site) -> None:
    """Whether it is the person's alone or not: its successor brings others what is theirs."""
    for to in (TARGET, f"{OTHER_TARGET},{TARGET}"):
        await site.append(to=to, text="hi")
    assert await site.cut_off("inbox", "insert", "before")
    await site.redis.delete(site.keys(0).lease("collect"))
    assert not (await _forget(site, wait_s=0)).complete
    await site.settle()
    assert (await _forget(site)).complete
    assert await _mentions(site, USER) == []
    assert [one["target"] for one in await site.stored()] == [OTHER_TARGET]


async def test_session_that_does_not_end(site: Site) -> None:
    """A live route is not removed: it tells where to kick. The run says which node it is."""
    now_ms = time.time_ns() // 1_000_000
    await site.redis.zadd(site.keys(0).route(USER), {"edge-1.a": now_ms + 60_000})
    await site.redis.zadd(site.keys(0).nodes(), {"edge-1.a": now_ms + 60_000})
    done = await _forget(site, wait_s=0)
    assert (done.complete, done.nodes) == (False, ("edge-1.a",))
    assert "node edge-1.a holds a session" in done.left[0]
    await site.redis.delete(site.keys(0).route(USER))
    assert (await _forget(site)).complete


async def test_messages_that_keep_coming(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends all the same, and asks."""
    monkeypatch.setattr(forgetting, "_PAUSE_S", 0.03)

    async def produce() -> None:
        while True:
            await site.append(to=TARGET, text="more")
            await anyio.sleep(0.005)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(produce)
        done = await _forget(site, wait_s=0.2)
        tasks.cancel_scope.cancel()
    assert not done.complete
    assert "still being sent" in done.left[0]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("part", "method", "nth"),
    [
        ("redis", "xrevrange", 1),
        ("redis", "xrevrange", 4),
        ("redis", "xrevrange", 9),
        ("redis", "hdel", 1),
        ("redis", "delete", 1),
        ("redis", "zrem", 1),
        ("inbox", "forget", 1),
        ("inbox", "forget", 2),
        ("cursors", "forget", 1),
        ("subscriptions", "forget", 1),
    ],
)
async def test_run_that_was_cut_off_is_finished_by_the_next(site: Site, part: str, method: str, nth: int, when: str) -> None:
    """Wherever it was: nothing is remembered from one to the next."""
    for n in range(150):
        await site.append(to=TARGET, text="hi", id=f"m{n}")
    await site.settle()
    await _no_owner(site)
    await _litter(site, USER)
    whole = _stores(site)[part]
    with pytest.raises(Cut):
        await _forget(site, 10.0, **{part: Cutting(whole, method, when, nth)})
    assert (await _forget(site)).complete
    assert await _mentions(site, USER) == []


async def test_what_is_sent_afterwards(site: Site) -> None:
    """An id of before is accepted again, and its seq is above whatever was given."""
    await site.append(to=TARGET, text="hi", id="m")
    await site.settle()
    (before,) = await site.stored()
    assert (await _forget(site)).complete
    await site.append(to=TARGET, text="again", id="m")
    await site.settle()
    (after,) = await site.stored()
    assert after["seq"] > before["seq"]
    assert await site.redis.hget(site.keys(0).seq(TARGET), "handed") == str(after["seq"]).encode()


async def test_what_waits_is_forgotten(site: Site) -> None:
    """A message for the person alone is gone, and one for others too is theirs alone."""
    at = str(int(time.time() * 1000) + 3_600_000)
    await site.append(to=TARGET, id="hers", text="hi", at=at)
    await site.append(to=f"{TARGET},{OTHER_TARGET}", id="both", text="hi", at=at)
    await site.settle()
    done = await _forget(site)
    assert (done.complete, done.messages) == (True, 2)
    later = Later(site.mongo, site.settings)
    assert await later.waiting_with_id("hers") == []
    assert [one.targets for one in await later.waiting_with_id("both")] == [(OTHER_TARGET,)]
