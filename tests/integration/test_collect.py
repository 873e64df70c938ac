"""router.collect on a real Redis and a real store: cut off anywhere, and what lost counters and lost leases do to it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import anyio
import pytest
import structlog

from router.bell import Bell
from router.errors import Fenced
from router.shards import shard_of_target
from router.streams import NEW, TAKEN_BEFORE
from tests.collecting import Cut, Cutting, ordinary, until
from tests.integration.site import Site

pytestmark = pytest.mark.anyio


USERS = {shard: next(f"user:{n}" for n in range(100) if shard_of_target(f"user:{n}", 2) == shard) for shard in range(2)}

STEPS = [
    ("intake", "take"),
    ("intake", "sequence"),
    ("intake", "append"),
    ("intake", "bury"),
    ("intake", "forward"),
    ("inbox", "insert"),
    ("inbox", "find"),
    ("inbox", "newest"),
]


MANY = ",".join(f"user:{n}" for n in range(40))
"""More than `targets_inline_max` in each of two shards."""


async def _append_all_kinds(site: Site) -> None:
    """Append to shard 0 what goes every way that there is."""
    both = f"{USERS[0]},{USERS[1]}"
    await site.append(to=MANY, text="to many", id="w1")
    await site.append(to=MANY, text="now", id="t2", transient="1")
    await site.append(to=USERS[0], text="1", id="m1")
    await site.append(to=USERS[0], text="again", id="old")
    await site.append(to=both, body='{"n":2}', id="m2", ttl="600")
    await site.append(to="nobody", text="dead")
    await site.append(to=both, text="now", id="t1", transient="1")
    await site.append(to=USERS[1], text="3", id="m3")
    await site.append(to=f"user:cold,{both}", text="4", id="m4", **{"x-a.b": "c"})
    await site.append(to=both, text="repeated", id="m1")
    await site.append(to=USERS[0], text="5", id="m5")
    await site.append(to=f"{MANY},user:new,all", text="again", id="w1")


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("part", "method"), STEPS, ids=[method for _, method in STEPS])
async def test_cut_anywhere(two_shards: Site, part: str, method: str, when: str, nth: int) -> None:
    """An owner ends before or after any step; the next one finishes: all is stored once, in order, and in `out`."""
    site = two_shards
    await site.append(to=USERS[0], text="0", id="old")
    await site.settle()
    await _append_all_kinds(site)
    await site.cut_off(part, method, when, nth)
    await site.settle()
    await site.is_kept()
    assert [letter["reason"].partition(":")[0] for letter in await site.dead()] == ["to"]
    for shard in range(2):
        assert any(f"{USERS[shard]} - - " in line for line in await site.lines(shard))


@pytest.mark.parametrize("method", ["sequence", "insert", "find", "append"])
async def test_cancelled_anywhere(site: Site, method: str) -> None:
    """An owner is cancelled in the middle of a step, as when its lease is found lost or its process is to stop."""

    class Slow:
        def __init__(self, inner: object) -> None:
            self.inner = inner
            self.reached = anyio.Event()

        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the inner one has
            found = getattr(self.inner, name)
            return self.call(found) if name == method else found

        def call(self, found: Any) -> Any:  # noqa: ANN401 - likewise
            async def run(*args: object, **kwargs: object) -> object:
                self.reached.set()
                return await found(*args, **kwargs)

            return run

    await site.append(to="user:a", text="0", id="m0")
    await site.settle()
    for number in range(20):
        await site.append(to="user:a,all", text=str(number), id=f"m{number}")
    slow = Slow(site.inbox if method in ("insert", "find") else site.intake())
    owner = site.owner(inbox=slow) if method in ("insert", "find") else site.owner(intake=slow)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(owner.run, await site.lease())
        with anyio.fail_after(60):
            await slow.reached.wait()
        tasks.cancel_scope.cancel()
    await site.settle()
    await site.is_kept()


async def test_same_id_is_one_message(site: Site) -> None:
    """The same id for a target, in one entry, batch or later, is stored once; to another target it is another message."""
    await site.append(to="user:a,user:a,user:b", text="first", id="x")
    await site.append(to="user:a", text="second", id="x")
    await site.settle()
    await site.append(to="all,user:a", text="third", id="x")
    await site.append(to="user:a", text="fourth", id="y")
    await site.settle()
    await site.is_kept()
    frames = {document["_id"]: document["frame"] for document in await site.stored()}
    assert frames.keys() == {"user:a x", "user:b x", "all x", "user:a y"}
    assert '"text":"first"' in frames["user:a x"]
    assert '"text":"third"' in frames["all x"]


async def test_document_is_as_documented(site: Site) -> None:
    """Frame, place, times and carried fields stand in the inbox; the line carries the same frame and expiry."""
    entry_id = await site.append(to="user:a", body='{ "n": 1 }', id="m", ttl="60", traceparent="00-1", **{"x-a.b": "c"})
    await site.settle()
    (document,) = await site.stored()
    appended_ms = int(entry_id.partition("-")[0])
    seq = document["seq"]
    frame = f'{{"type":"message","to":"user:a","seq":{seq},"id":"m","ts":{appended_ms},"body":{{"n":1}}}}'
    assert document["frame"] == frame
    assert (document["_id"], document["target"], document["id"], document["prev"]) == ("user:a m", "user:a", "m", 0)
    assert document["carried"] == {"traceparent": "00-1", "x-a.b": "c"}
    assert document["expires_at"].timestamp() * 1000 == pytest.approx(appended_ms + 60_000, abs=0.01)
    assert await site.lines() == [f"user:a 0 {seq} exp={appended_ms + 60_000} {frame}"]


async def test_repeated_line_is_the_same_but_for_its_expiry(site: Site) -> None:
    """Cut off before append, the next owner hands on the very lines, expiry to the millisecond."""
    for number in range(50):
        await site.append(to=f"user:{number}", text="hi", id="m", ttl="60")
    handed_on: list[str] = []

    class Reading(Cutting):
        async def append(self, *_held: str, lines: list[str], **_others: object) -> None:
            handed_on.extend(lines)
            raise Cut

    assert await site.run_until_cut(site.owner(intake=Reading(site.intake(), "nothing", "before")))
    await site.settle()
    assert await site.lines() == handed_on


@pytest.mark.parametrize("nth", [0, 1, 2])
async def test_taken_seq_is_drawn_anew(site: Site, nth: int) -> None:
    """MongoDB has another message under a seq that was given: ours goes above the newest, and nobody loses anything."""
    for number in range(3):
        await site.append(to="user:a", text=str(number), id=f"m{number}")
    assert await site.cut_off("inbox", "insert", "before")
    given = sorted(int(seq) for seq in (await site.redis.hvals(site.keys(0).pending())))
    await site.store_another("user:a", given[nth])
    with structlog.testing.capture_logs() as logs:
        await site.settle()
    await site.is_kept(in_order=False)
    assert [entry["messages"] for entry in logs if entry["event"] == "seq_taken"] == [1]
    assert len(await site.stored()) == 4


@pytest.mark.parametrize("method", ["sequence", "insert", "append"])
async def test_counters_are_lost(site: Site, method: str) -> None:
    """Redis forgets seqs and pending, between batches and in the middle of one: order goes on above MongoDB's newest."""
    keys = site.keys(0)
    await site.append(to="user:a", text="1", id="m1")
    await site.settle()
    (first,) = await site.stored()
    await site.redis.delete(keys.seq("user:a"), keys.pending())
    await site.append(to="user:a", text="2", id="m2")
    await site.append(to="user:a", text="3", id="m3")
    await site.cut_off("inbox" if method == "insert" else "intake", method, "after")
    await site.redis.delete(keys.seq("user:a"), keys.pending())
    await site.settle()
    await site.is_kept()
    second = (await site.lines())[1].split(" ")
    assert int(second[1]) == first["seq"]


async def test_everything_of_redis_is_lost(site: Site) -> None:
    """After FLUSHALL of a prefix the group is made anew, what was stored lately goes out again, and the new follows it."""
    await site.append(to="user:a", text="1", id="m1")
    await site.settle()
    async with anyio.create_task_group() as tasks:
        held = await site.lease()
        tasks.start_soon(site.owner().run, held)
        for key in await site.redis.keys(f"{site.settings.prefix}:*"):
            if not key.endswith(b":lease:collect"):
                await site.redis.delete(key)
        await site.append(to="user:a", text="2", id="m2")
        with anyio.fail_after(60):
            await site.settled(0)
        tasks.cancel_scope.cancel()
    first, second = sorted(await site.stored(), key=lambda document: int(document["seq"]))
    again, new = await site.lines()
    assert again.endswith(first["frame"])
    assert new == f"user:a {first['seq']} {second['seq']} - {second['frame']}"


async def test_fenced_owner_does_no_harm(site: Site) -> None:
    """An owner paused at any step wakes after another has finished its batch: it ends, and all is as it was."""
    for method in ("sequence", "insert", "find", "append"):
        await site.append(to="user:a,all", text="hi", id=f"m-{method}")
        woken = await _wake_late(site, method)
        assert woken
    await site.is_kept()
    assert len(await site.stored()) == 8


async def _wake_late(site: Site, method: str) -> bool:
    """Pause an owner before a step, let another finish, wake the first; tell whether it was fenced off."""
    finished = anyio.Event()

    class Paused(Cutting):
        def _cut(self, inner: Any) -> Any:  # noqa: ANN401 - a bound method
            async def call(*args: object, **kwargs: object) -> object:
                reached.set()
                await finished.wait()
                return await inner(*args, **kwargs)

            return call

    reached = anyio.Event()
    part = Paused(site.inbox if method in ("insert", "find") else site.intake(), method, "before")
    paused = site.owner(inbox=part) if method in ("insert", "find") else site.owner(intake=part)
    stale = await site.lease()
    ended = False

    async def run() -> None:
        nonlocal ended
        await paused.run(stale)
        ended = True

    if method == "find":
        # Only a repeated id is looked for.
        await site.settle()
        stale = await site.lease()
        await site.append(to="user:a", text="again", id="m-find")
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await reached.wait()
            await site.settle()
            before = (await site.lines(), await site.stored())
            finished.set()
    assert (await site.lines(), await site.stored()) == before
    return ended


async def test_stale_lease_takes_and_gives_nothing(site: Site) -> None:
    """With an earlier `held` nothing can be taken."""
    stale = await site.lease()
    await site.lease()
    await site.append(to="user:a", text="hi", id="m")
    for start in (NEW, TAKEN_BEFORE):
        with pytest.raises(Fenced):
            await site.intake().take(stale, start)
    with anyio.fail_after(60):
        await site.owner().run(stale)
    await site.settle()
    await site.is_kept()


@pytest.mark.parametrize("kind", ["transient", "later", "durable"])
async def test_owner_that_lost_its_lease_while_it_waited_changes_nothing(
    two_shards: Site, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rings comes to it too, and goes no further: not to another shard, nor to where it would wait for its time."""
    site, waits, goes_on = two_shards, anyio.Event(), anyio.Event()
    wait = Bell.wait

    async def late(bell: Bell, most_ms: int | None = None) -> Sequence[Any]:
        waits.set()
        await goes_on.wait()
        return await wait(bell, most_ms)

    monkeypatch.setattr(Bell, "wait", late)
    owner, stale = site.owner(), await site.lease()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(owner.run, stale)
            await waits.wait()
            await site.lease()
            fields = {"to": f"{USERS[0]},{USERS[1]}", "text": "hi", "id": "m", "transient": str(int(kind == "transient"))}
            fields |= {"at": str(time.time_ns() // 1_000_000 + 3_600_000)} if kind == "later" else {}
            await site.redis.xadd(site.keys(0).intake(), fields)
            goes_on.set()
    assert (await site.lines(0), await site.lines(1), await site.stored()) == ([], [], [])
    assert await site.redis.xlen(site.keys(1).intake()) == 0
    assert await site.redis.xlen(site.keys(0).intake()) == 1
    assert await site.mongo[site.settings.mongo_database].later.count_documents({}) == 0


async def test_forwards_keep_order_and_id(two_shards: Site) -> None:
    """What is appended to the wrong shard arrives in the right one, in order, once, also when passed on twice."""
    site = two_shards
    for number in range(50):
        await site.append(number % 2, to=f"{USERS[0]},{USERS[1]}", text=str(number), id=f"m{number}")
    await site.append(0, to=USERS[1], text="unnamed")
    assert await site.cut_off("intake", "forward", "after")
    await site.settle()
    stored = await site.stored()
    assert len(stored) == 101
    for target in USERS.values():
        documents = sorted((one for one in stored if one["target"] == target), key=lambda one: int(one["seq"]))
        for parity in (0, 1):
            # The order of one stream is kept; between two streams there is none.
            numbers = [int(one["id"][1:]) for one in documents if one["id"].startswith("m")]
            assert [n for n in numbers if n % 2 == parity] == list(range(parity, 50, 2))
    await site.nothing_is_left()


async def test_out_high_water_pauses(site: Site) -> None:
    """Collect stops taking while dispatch is behind, says so once, and goes on when `out` has drained."""
    site.settings = site.settings.model_copy(update={"out_high_water": 1, "batch_max": 8})
    for number in range(40):
        await site.append(to="user:a", text=str(number), id=f"m{number}")
    keys = site.keys(0)
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(site.owner().run, await site.lease())
            with anyio.fail_after(60):
                await until(lambda: any(entry["event"] == "out_high_water_reached" for entry in logs))
                for _ in range(5):
                    await anyio.sleep(site.settings.wait_ms / 1000)
                    assert await site.redis.xlen(keys.out()) == 2
                while await site.redis.xlen(keys.intake()):
                    await site.redis.xtrim(keys.out(), maxlen=0, approximate=False)
                    await anyio.sleep(0.005)
            tasks.cancel_scope.cancel()
    events = [entry["event"] for entry in logs if entry["event"].startswith("out_")]
    assert events[:2] == ["out_high_water_reached", "out_drained"]
    assert len(await site.stored()) == 40


async def test_batch_of_many_targets_is_cut(site: Site) -> None:
    """Entries that make more messages than a batch takes are done batch after batch."""
    site.settings = site.settings.model_copy(update={"batch_max": 30})
    for number in range(10):
        await site.append(to=",".join(f"user:{n}" for n in range(20)), text=str(number), id=f"m{number}")
    await site.settle()
    await site.is_kept()


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize(("part", "method"), [("intake", "append"), ("inbox", "insert")])
async def test_cut_between_two_slices(site: Site, part: str, method: str, nth: int) -> None:
    """What an entry to many has brought through stays as it is, and the next owner brings the rest: one body, each once."""
    site.settings = site.settings.model_copy(update={"batch_max": 10})
    await site.append(to="user:3", text="before", id="m0")
    await site.append(to=MANY, text="to many", id="w1")
    assert await site.cut_off(part, method, "after", nth)
    await site.settle()
    await site.is_kept()
    assert await site.mongo[site.settings.mongo_database].bodies.count_documents({}) == 1


async def test_repeat_whose_body_is_gone_holds_nothing_up(site: Site) -> None:
    """There is nothing to hand on of it; what follows names its place as prev."""
    await site.append(to=MANY, text="to many", id="w1")
    await site.settle()
    await site.mongo[site.settings.mongo_database].bodies.delete_many({})
    await site.redis.delete(site.keys(0).out())
    await site.append(to="user:0", text="again", id="w1")
    await site.append(to="user:0", text="after", id="m1")
    await site.settle()
    first = await site.documents.find_one({"_id": "user:0 w1"})
    (line,) = await site.lines()
    assert line.startswith(f"user:0 {first['seq']} ")
    assert '"text":"after"' in line


async def test_repeat_to_many_goes_out_as_it_was_stored(site: Site) -> None:
    """With the first content, whoever of them had it; the others have the second."""
    first, second = (",".join(f"user:{n}" for n in range(10, 10 + count)) for count in (12, 20))
    await site.append(to=first, text="one", id="w1")
    await site.settle()
    await site.redis.delete(site.keys(0).out())
    await site.append(to=second, text="two", id="w1")
    await site.settle()
    told = [(len(ordinary(line)), line.rpartition('"text":')[2]) for line in await site.lines()]
    assert sorted(told) == [(8, '"two"}'), (12, '"one"}')]
    await site.is_kept()
