"""Asking who of a topic is there, from the question to the answers, on fakeredis and on real servers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest
from redis.exceptions import RedisError

from edge.answers import Answers
from router.members import members_of
from tests.scripts.shard import Shard

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def edges(shard: Shard, **users: Sequence[str]) -> AsyncIterator[Mapping[str, Answers]]:
    """Yield edges by name, each of which hears topic `t` and has a session of each of these users."""
    made: dict[str, Answers] = {}

    async def hear(name: str, here: Sequence[str], ready: anyio.Event) -> None:
        answers = made[name] = Answers(shard.redis, shard.settings, name, lambda _: here)
        async with shard.redis.pubsub() as pubsub, anyio.create_task_group() as tasks:
            await pubsub.ssubscribe(shard.keys.topic_channel("t"))
            tasks.start_soon(answers.run)
            while True:
                reply = await pubsub.get_message(timeout=1.0)
                if reply is not None and reply["type"] == "ssubscribe":
                    ready.set()
                elif reply is not None and reply["type"] == "smessage":
                    answers.hear(reply["data"].split(b" ", 4)[4])

    async with anyio.create_task_group() as tasks:
        for name, here in users.items():
            ready = anyio.Event()
            tasks.start_soon(hear, name, here, ready)
            await ready.wait()
        yield made
        tasks.cancel_scope.cancel()


async def test_all_that_hear_the_topic_answer(shard: Shard) -> None:
    """And nothing stays subscribed."""
    async with edges(shard, one=["ann", "bob", "ann"], two=["bob"]):
        members = await members_of(shard.redis, shard.settings, "t", 10)
        assert members.users == [("ann", 2), ("bob", 2)]
        assert (members.sessions, members.asked, members.answered, members.complete) == (4, 2, 2, True)
    assert await shard.redis.keys("*answer*") == []


async def test_a_topic_that_nobody_hears_is_answered_at_once(shard: Shard) -> None:
    """Redis says that nobody has heard the question."""
    members = await members_of(shard.redis, shard.settings, "t", 10)
    assert (members.users, members.asked, members.complete) == ([], 0, True)


async def test_who_keeps_silent_is_not_waited_for_longer_than_set(shard: Shard) -> None:
    """As a tap does: what has come by then counts, and it is told that it is not all."""
    brief = shard.with_settings(members_timeout_ms=300)
    async with edges(shard, one=["ann"]), shard.listening(shard.keys.topic_channel("t")):
        members = await members_of(shard.redis, brief.settings, "t", 10)
    assert (members.users, members.asked, members.answered, members.complete) == ([("ann", 1)], 2, 1, False)


async def test_many_may_ask_at_once(shard: Shard) -> None:
    """Each gets all answers."""
    found = []

    async def ask() -> None:
        found.append(await members_of(shard.redis, shard.settings, "t", 10))

    async with edges(shard, one=["ann"], two=["bob"]), anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(ask)
    assert [members.users for members in found] == [[("ann", 1), ("bob", 1)]] * 5


async def test_an_answer_that_redis_does_not_take_is_dropped(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is given all the same."""
    brief = shard.with_settings(members_timeout_ms=300)

    def fail(*_: object, **__: object) -> None:
        raise RedisError("away")

    async with edges(shard, one=["ann"]) as made:
        with monkeypatch.context() as patched:
            patched.setattr(made["one"], "_redis", type("Away", (), {"pipeline": fail})())
            assert not (await members_of(shard.redis, brief.settings, "t", 10)).complete
        assert (await members_of(shard.redis, shard.settings, "t", 10)).complete
