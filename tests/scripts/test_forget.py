"""forget.lua: a person is taken out of a stream, and nobody else is."""

from __future__ import annotations

import json
import time
from typing import Any, Final

import pytest
from redis.exceptions import OutOfMemoryError

import lua
from router.collect.intake import Place
from router.lines import build_many, build_place
from router.stored import make_body
from tests.scripts.shard import HELD, Shard, item, line

pytestmark = pytest.mark.anyio

TARGET: Final = "user:a"
MEBIBYTE: Final = 1_048_576

GAP_MAX_S: Final = 5.0
"""Some milliseconds are enough, and the square would take a quarter of an hour."""


async def forget(
    shard: Shard,
    stream: str,
    shared: str = "replace",
    *,
    begin: str = "-",
    until: str = "+",
    most: int = 500,
    size: int = MEBIBYTE,
) -> list[Any]:
    """Call the script as `router.forget` does; texts come as str."""
    script = shard.redis.register_script(lua.source("forget"))
    reply = await script(keys=[stream], args=[TARGET, begin, until, most, size, shared])
    return [part.decode() if isinstance(part, bytes) else part for part in reply]


async def _add(shard: Shard, stream: str, *pairs: str | bytes) -> str:
    entry: bytes = await shard.redis.execute_command("XADD", stream, "*", *pairs)
    return entry.decode()


async def test_what_is_addressed_to_nobody_else_goes(shard: Shard) -> None:
    """Whatever else the entry says; users whose names begin alike are others."""
    stream = shard.keys.intake()
    for to in ("user:a", "user:a,user:a", " user:a ,", "user:ab", "user:b", "topic:a", "all", "user:A"):
        await _add(shard, stream, "x-note", "user:a", "to", to, "text", "user:a")
    await _add(shard, stream, "text", "nobody")
    assert await forget(shard, stream) == ["", 3, 0, 0, ""]
    assert [entry.get("to") for entry in await shard.entries(stream)] == ["user:ab", "user:b", "topic:a", "all", "user:A", None]


async def test_lines_go_by_their_first_word(shard: Shard) -> None:
    """A frame that names the person is another's message."""
    kept = [line("user:ab", 1), line("user:b", 2, text="user:a "), line("all", 3)]
    await shard.put_out(line("user:a", 4), *kept, line("user:a", None))
    assert await forget(shard, shard.keys.out()) == ["", 2, 0, 0, ""]
    assert await shard.lines_out() == kept


async def test_lines_that_share_an_entry_go_alone(shard: Shard) -> None:
    """The others stay, in their order; an entry of nobody else goes."""
    mine, others = line("user:a", 4), [line("user:ab", 1), line("user:b", 2, text="user:a "), line("all", 3)]
    await shard.put_out("\n".join((mine, *others[:2], mine, others[2])), f"{mine}\n{mine}", "\n".join(others))
    assert await forget(shard, shard.keys.out()) == ["", 1, 1, 0, ""]
    assert await shard.texts_out() == ["\n".join(others)] * 2


async def test_lines_of_many_lose_a_place(shard: Shard) -> None:
    """The others keep theirs; a line of nobody else goes, and a content that names the person is another's message."""
    rest = make_body("m", 7, '"text":"user:a,1,2 "').rest
    places = [build_place(f"user:{user}", 1, 2) for user in ("b", "a", "ab")]
    others = [places[0], places[2]]
    await shard.put_out(*(build_many(some, "exp=5", rest) for some in (places, [places[1]], others)))
    assert await forget(shard, shard.keys.out()) == ["", 1, 1, 0, ""]
    assert await shard.lines_out() == [build_many(others, "exp=5", rest)] * 2


async def test_events_go_by_their_user(shard: Shard) -> None:
    """What else comes of a node or a topic of that name is nobody's; elsewhere a field `user` names nobody either."""
    events = shard.keys.events()
    for event in ("online", "subscribed", "offline"):
        await _add(shard, events, "event", event, "user", "a", "node", "edge.1")
    await _add(shard, events, "event", "online", "user", "ab", "node", "edge.1")
    await _add(shard, events, "event", "subscribed", "user", "b", "topic", "a", "node", "user:a")
    await _add(shard, events, "event", "gone", "node", "a")
    assert await forget(shard, events) == ["", 3, 0, 0, ""]
    assert len(await shard.ids(events)) == 3
    await _add(shard, shard.keys.dead(), "reason", "no", "to", "user:b", "user", "a")
    assert await forget(shard, shard.keys.dead()) == ["", 0, 0, 0, ""]


async def test_a_gap_of_half_a_megabyte_costs_what_it_is_long(shard: Shard) -> None:
    """Redis serves nobody else meanwhile, so the time must not grow with the square of what somebody wrote."""
    gap = " " * 500_000
    for to in (f"user:a{gap}b", f"user:b{gap}", f"{gap},user:a{gap},"):
        await _add(shard, shard.keys.dead(), "to", to)
    before_s = time.monotonic()
    assert await forget(shard, shard.keys.dead(), size=8 * MEBIBYTE) == ["", 1, 0, 0, ""]
    assert time.monotonic() - before_s < GAP_MAX_S


async def test_an_entry_for_others_too_is_kept_where_order_counts(shard: Shard) -> None:
    """It stays whole and in its place, and the last one's id is told."""
    stream = shard.keys.intake()
    ids = [await _add(shard, stream, "to", to, "text", "hi") for to in ("user:a,user:b", "user:b", "all,user:a", "user:a")]
    assert await forget(shard, stream, "keep") == ["", 1, 0, 2, ids[2]]
    assert await shard.ids(stream) == ids[:3]


async def test_an_entry_for_others_too_is_replaced_where_it_does_not(shard: Shard) -> None:
    """By the same without the person, in the list and in words; what is not the person's stays as it is."""
    dead = shard.keys.dead()
    for reason, to in (("no", "user:b,user:a,user:c"), ("the counters of user:a are broken", "user:a,all")):
        await _add(shard, dead, "reason", reason, "source", "push:{0}:in", "entry", "1-1", "to", to, "body", b"\xff\x00")
    assert await forget(shard, dead) == ["", 0, 2, 0, ""]
    found = await shard.redis.xrange(dead)
    assert [(fields[b"to"], fields[b"body"]) for _, fields in found] == [(b"user:b,user:c", b"\xff\x00"), (b"all", b"\xff\x00")]
    assert found[0][1][b"reason"] == b"no"
    assert b"user:a" not in found[1][1][b"reason"]
    assert await forget(shard, dead) == ["", 0, 0, 0, ""]


async def test_letters_that_are_one_array(shard: Shard) -> None:
    """An entry of thousands of fields is removed as a whole; what only looks like one is nobody's."""
    dead = shard.keys.dead()
    for packed in (["x", "y", "to", "user:b,user:a"], ["to", "user:b"], ["to", {"user:a": 1}], [["to"], "user:a"]):
        await _add(shard, dead, "reason", "no", "fields", json.dumps(packed))
    await _add(shard, dead, "reason", "no", "fields", "[not json: user:a")
    assert await forget(shard, dead) == ["", 1, 0, 0, ""]
    assert await shard.redis.xlen(dead) == 4


async def test_slice_by_slice(shard: Shard) -> None:
    """Each call ends at its budget and tells where the next begins; what comes behind the end is not looked at."""
    stream = shard.keys.intake()
    ids = await shard.appended(25, to="user:a", text="x" * 100)
    await shard.appended(3, to="user:a", text="late")
    removed, begin, calls = 0, "-", 0
    while begin != "(":
        last, here, *_ = await forget(shard, stream, begin=begin, until=ids[-1], most=10, size=100 if calls == 0 else MEBIBYTE)
        removed, begin, calls = removed + here, f"({last}", calls + 1
    assert (removed, calls) == (25, 4)
    assert await shard.redis.xlen(stream) == 3


async def test_stream_that_is_not_there(shard: Shard) -> None:
    """Nothing is made of it."""
    assert await forget(shard, shard.keys.trace()) == ["", 0, 0, 0, ""]
    assert not await shard.redis.exists(shard.keys.trace())


async def test_a_full_redis_forgets(real_shard: Shard) -> None:
    """Replacing takes no more room than there was."""
    await _add(real_shard, real_shard.keys.dead(), "reason", "no", "to", "user:a,user:b")
    await real_shard.redis.config_set("maxmemory", 1)
    with pytest.raises(OutOfMemoryError):
        await real_shard.redis.set("x", "y")
    assert await forget(real_shard, real_shard.keys.dead()) == ["", 0, 1, 0, ""]


async def test_what_collect_has_taken_is_not_taken_again(shard: Shard) -> None:
    """An entry that goes while it is in hand disturbs nobody around it."""
    await shard.appended(1, to="user:a", text="hi")
    (other,) = await shard.appended(1, to="user:b", text="hi")
    assert len(await shard.intake.take(HELD, ">")) == 2
    await shard.intake.sequence(HELD, shard.era, [item("user:b", "m")], {"user:b": 0}, other)
    await forget(shard, shard.keys.intake(), "keep")
    assert [entry.id for entry in await shard.intake.take(HELD, "0")] == [other]


async def test_a_batch_in_hand_ends_well_without_its_entry(shard: Shard) -> None:
    """append.lua finishes it, and what was appended meanwhile stays."""
    await shard.appended(1, to="user:b", text="hi")
    await shard.appended(1, to="user:a", text="hi")
    taken = [entry.id for entry in await shard.intake.take(HELD, ">")]
    (late,) = await shard.appended(1, to="user:b", text="late")
    await forget(shard, shard.keys.intake(), "keep")
    await shard.intake.append(HELD, lines=[], heads={"user:a": 5}, entry_ids=taken, item_ids=[], trim=True)
    assert await shard.ids(shard.keys.intake()) == [late]


async def _placed(shard: Shard, message_id: str) -> int:
    places = await shard.place(HELD, [item(TARGET, message_id)], {TARGET: 0})
    assert isinstance(places, list)
    (place,) = places
    assert isinstance(place, Place)
    return place.seq


async def test_seqs_do_not_go_back_when_the_counter_is_gone(shard: Shard) -> None:
    """The next one is drawn by the clock, which is above whatever was given by it before."""
    last = max([await _placed(shard, f"m{n}") for n in range(50)])
    await shard.redis.delete(shard.keys.seq(TARGET), shard.keys.pending())
    assert await _placed(shard, "m0") > last
