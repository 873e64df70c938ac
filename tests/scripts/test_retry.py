"""lua/retry.lua through DeadLetters: a dead letter's entry is in its stream again, and the letter gone, or neither."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from router.dead import DeadLetters, Letter
from router.errors import RuleBroken
from router.keys import Keys
from router.streams import NEW
from tests.scripts.shard import HELD, Shard

pytestmark = pytest.mark.anyio


async def _buried(shard: Shard, count: int = 1, **fields: str) -> DeadLetters:
    ids = await shard.appended(count, **fields)
    await shard.intake.take(HELD, NEW)
    await shard.intake.bury(HELD, [(entry_id, "no") for entry_id in ids])
    return DeadLetters(shard.redis, shard.settings)


async def _all(letters: DeadLetters, source: str | None = None) -> list[Letter]:
    return [letter async for letter in letters.all_now(source)]


async def test_entry_is_in_its_stream_again(shard: Shard) -> None:
    """Field by field, bytes, order and repeats included; collect takes it as any other, and the letter is gone."""
    flat = [b"to", b"user:a", b"to", b"\xff\x00\n", b"reason", b""]
    entry_id = await shard.append_flat("*", flat)
    await shard.intake.take(HELD, NEW)
    await shard.intake.bury(HELD, [(entry_id, "to: given twice")])
    letters = DeadLetters(shard.redis, shard.settings)
    (letter,) = await _all(letters)
    assert (letter.source, letter.entry, letter.reason) == ("in", entry_id, "to: given twice")
    new_id = await letters.retry(letter, letter.fields)
    (taken,) = await shard.intake.take(HELD, NEW)
    assert (taken.id, [part for pair in taken.fields for part in pair]) == (new_id, flat)
    assert await _all(letters) == []


async def test_letter_is_retried_once(shard: Shard) -> None:
    """Whoever comes second finds it gone, and appends nothing."""
    letters = await _buried(shard)
    (letter,) = await _all(letters)
    assert await letters.retry(letter, letter.fields) is not None
    assert await letters.retry(letter, letter.fields) is None
    assert len(await _all(letters)) == 0
    assert await shard.redis.xlen(shard.keys.intake()) == 1


async def test_refused_entry_leaves_the_letter(shard: Shard) -> None:
    """What Redis does not append is dead as before."""
    letters = await _buried(shard)
    (letter,) = await _all(letters)
    await shard.redis.delete(shard.keys.intake())
    await shard.redis.set(shard.keys.intake(), "no stream")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await letters.retry(letter, letter.fields)
    assert await _all(letters) == [letter]


async def test_letter_that_is_dropped_is_gone(shard: Shard) -> None:
    """The second time there is nothing to drop."""
    letters = await _buried(shard)
    (letter,) = await _all(letters)
    assert await letters.drop(letter)
    assert not await letters.drop(letter)
    assert await letters.count() == 0


async def test_all_are_walked_once(shard: Shard) -> None:
    """In order over many pages; what dies meanwhile is left for another time."""
    letters = await _buried(shard, 250, to="user:a")
    walked = []
    async for letter in letters.all_now():
        walked.append(letter.id)
        if len(walked) == 120:
            await shard.redis.xadd(shard.keys.dead(), {"reason": "later"})
    assert len(walked) == 250
    assert walked == sorted(walked, key=lambda name: tuple(map(int, name.split("-"))))
    assert await letters.count() == 251


async def test_newest_come_first(shard: Shard) -> None:
    """At most so many, of one source, since a time."""
    dead = shard.keys.dead()
    for number in range(1, 300):
        source = "push:{0}:fast" if number % 3 == 0 else "push:{0}:in"
        await shard.redis.xadd(dead, {"reason": str(number), "source": source}, id=f"{number}-0")
    letters = DeadLetters(shard.redis, shard.settings)
    assert [letter.reason for letter in await letters.newest(3)] == ["299", "298", "297"]
    assert [letter.reason for letter in await letters.newest(2, source="fast")] == ["297", "294"]
    assert [letter.reason for letter in await letters.newest(9, since_ms=298)] == ["299", "298"]
    assert len(await letters.newest(1_000)) == 299
    assert [letter.reason for letter in await _all(letters, "fast")] == [str(number) for number in range(3, 300, 3)]


async def test_letters_of_several_shards(shard: Shard) -> None:
    """A letter's name says its shard, and its entry goes back to that one."""
    settings = shard.settings.model_copy(update={"shards": 2})
    other = Keys(settings.prefix, 1)
    await shard.redis.xadd(shard.keys.dead(), {"reason": "a", "source": shard.keys.intake(), "to": "user:a"}, id="1-0")
    await shard.redis.xadd(other.dead(), {"reason": "b", "source": other.intake(), "to": "user:b"}, id="2-0")
    letters = DeadLetters(shard.redis, settings)
    assert [letter.reason for letter in await letters.newest(9)] == ["b", "a"]
    assert [letter.reason for letter in await _all(letters)] == ["a", "b"]
    letter = await letters.find("1/2-0")
    assert letter is not None
    await letters.retry(letter, letter.fields)
    assert await shard.redis.xlen(other.intake()) == 1
    assert await letters.find("1/2-0") is None
    for name in ("2-0", "2/2-0", "word"):
        with pytest.raises(RuleBroken, match="the shard"):
            await letters.find(name)
