"""router.collect.owner over a fake Redis and an inbox in memory: cut off anywhere, again and again, nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import fakeredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from router.settings import Settings
from router.stored import make_document
from tests.collecting import MemoryInbox, Workshop

CALLS = ("take", "sequence", "append", "bury", "forward", "insert", "find", "newest")


@dataclass(frozen=True)
class Append:
    """A producer appends a message."""

    targets: tuple[str, ...]
    id: str
    transient: bool = False


@dataclass(frozen=True)
class CutOff:
    """An owner works until it is cut off at a call, or has nothing left."""

    method: str
    when: str
    nth: int


@dataclass(frozen=True)
class InsertPartly:
    """An owner is cut off while MongoDB has stored only some of its documents."""

    kept: frozenset[int]


@dataclass(frozen=True)
class Malform:
    """A producer appends what breaks the contract."""


@dataclass(frozen=True)
class LoseCounters:
    """Redis loses all that collect remembers of seqs."""


@dataclass(frozen=True)
class TakeSeq:
    """A seq that collect has given and not stored is stored by somebody else under another id."""

    nth: int


TARGETS = st.lists(st.sampled_from(["user:a", "user:b", "all"]), min_size=1, max_size=3, unique=True).map(tuple)
APPENDS = st.builds(Append, TARGETS, st.sampled_from([f"m{n}" for n in range(12)]), st.just(value=False))
STEPS = st.one_of(
    APPENDS,
    APPENDS,
    st.builds(Append, TARGETS, st.just("t"), st.just(value=True)),
    st.builds(CutOff, st.sampled_from(CALLS), st.sampled_from(["before", "after"]), st.integers(1, 3)),
    st.builds(InsertPartly, st.frozensets(st.integers(0, 4))),
    st.just(Malform()),
    st.just(LoseCounters()),
    st.builds(TakeSeq, st.integers(0, 3)),
)
SETTINGS = Settings(wait_ms=10, batch_max=4)


async def _run(steps: list[object]) -> None:
    inbox = MemoryInbox()
    async with fakeredis.FakeAsyncRedis(protocol=2, version=(7,), server=fakeredis.FakeServer(version=(7,))) as redis:
        workshop = Workshop(redis, inbox, SETTINGS)
        # fakeredis answers XREADGROUP on a missing key with another error than NOGROUP.
        await redis.xgroup_create(workshop.keys(0).intake(), "collect", id="0", mkstream=True)
        for step in steps:
            await _step(workshop, inbox, step)
        await workshop.settle()
        # Whose seq was taken comes behind the messages of its batch: it has to be above them.
        in_order = not any(isinstance(step, TakeSeq) for step in steps)
        await workshop.keeps_its_promise(list(inbox.stored.values()), in_order=in_order)


async def _step(workshop: Workshop, inbox: MemoryInbox, step: object) -> None:
    match step:
        case Append(targets, message_id, transient):
            flag = "1" if transient else "0"
            await workshop.append(to=",".join(targets), text="hi", id=message_id, transient=flag)
        case CutOff(method, when, nth):
            part = "inbox" if method in ("insert", "find", "newest") else "intake"
            await workshop.cut_off(part, method, when, nth)
        case InsertPartly(kept):
            inbox.keep_only = kept
            await workshop.run_until_cut(workshop.owner())
            inbox.keep_only = None
        case Malform():
            await workshop.append(to="nobody", text="hi")
        case LoseCounters():
            keys = workshop.keys(0)
            await workshop.redis.delete(keys.pending(), *(keys.seq(target) for target in ("user:a", "user:b", "all")))
        case TakeSeq(nth):
            await workshop.cut_off("inbox", "insert", "before")
            given = sorted((await workshop.redis.hgetall(workshop.keys(0).pending())).items())
            if nth < len(given):
                field, seq = given[nth]
                _store_another(inbox, field.decode().partition(" ")[0], int(seq))


def _store_another(inbox: MemoryInbox, target: str, seq: int) -> None:
    stored = {(document["target"], document["seq"]) for document in inbox.stored.values()}
    if (target, seq) not in stored:
        name = f"{target} another-{seq}"
        inbox.stored[name] = make_document(
            target=target,
            message_id=f"another-{seq}",
            place=(0, seq),
            frame=f'{{"seq":{seq}}}',
            carried=(),
            now_ms=0,
            shard=0,
            expires_ms=2**41,
        )


A1_A2 = [Append(("user:a",), "m1"), Append(("user:a",), "m2")]


@example([*A1_A2, InsertPartly(frozenset({1}))])
@example([*A1_A2, TakeSeq(0), CutOff("insert", "before", 2)])
@example([*A1_A2, TakeSeq(0), CutOff("insert", "after", 2)])
@example([*A1_A2, TakeSeq(0), CutOff("sequence", "after", 2)])
@given(st.lists(STEPS, max_size=25))
def test_no_cut_loses_repeats_or_reorders(steps: list[object]) -> None:
    """Every message is stored once a target, in the order of appending, and an edge delivers each exactly once."""
    anyio.run(_run, steps)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["sequence", "insert", "append", "bury"])
@pytest.mark.anyio
async def test_entry_dead_for_one_target_reaches_the_others(method: str, when: str) -> None:
    """Of two targets one has broken counters: the entry is buried once, and the other target has it, wherever it is cut."""
    inbox = MemoryInbox()
    async with fakeredis.FakeAsyncRedis(protocol=2, version=(7,), server=fakeredis.FakeServer(version=(7,))) as redis:
        workshop = Workshop(redis, inbox, SETTINGS)
        await redis.xgroup_create(workshop.keys(0).intake(), "collect", id="0", mkstream=True)
        await redis.set(workshop.keys(0).seq("user:broken"), "by hand")
        await workshop.append(to="user:a,user:broken", text="hi", id="m1")
        await workshop.append(to="user:a", text="hi", id="m2")
        workshop.appended = [("user:a", "m1"), ("user:a", "m2")]
        assert await workshop.cut_off("inbox" if method == "insert" else "intake", method, when)
        await workshop.settle()
        await workshop.keeps_its_promise(list(inbox.stored.values()))
        (dead,) = await workshop.dead()
    assert dead["id"] == "m1"
    assert dead["reason"].startswith("the counters of user:broken are broken: WRONGTYPE")
