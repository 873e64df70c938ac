"""router.api.append.waiting: those who wait leave MongoDB to those who store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import anyio
import fakeredis
import pytest

from router.api.append import waiting
from router.api.append.answers import Outcome
from router.api.append.reading import read_posted
from router.api.append.waiting import Waiting
from router.inbox import Inbox
from router.lines import build_frame
from router.settings import Settings
from router.stored import Stored

pytestmark = pytest.mark.anyio

SETTINGS: Final = Settings()
WAITING: Final = 50
AT_ONCE: Final = 2


class _SlowInbox:
    """Has nothing, and takes a moment to say so; `most` is how many asked at once."""

    def __init__(self) -> None:
        self.asking = self.most = self.asked = 0

    async def find(self, _ids: Sequence[str]) -> dict[str, Any]:
        self.asking += 1
        self.asked += 1
        self.most = max(self.most, self.asking)
        try:
            await anyio.sleep(0.001)
        finally:
            self.asking -= 1
        return {}


def _appended(number: int) -> Outcome:
    posted = read_posted(b'{"to":"user:a","text":"hi"}', None, f"m{number}", SETTINGS)
    return Outcome(posted, stream="push:{0}:in", entry="1-0")


async def test_many_who_wait_ask_in_turns() -> None:
    """A driver has so many connections, and who stores would stand in line behind all who only look."""
    inbox = _SlowInbox()
    async with fakeredis.FakeAsyncRedis(protocol=2) as redis, anyio.create_task_group() as tasks:
        patient = Waiting(redis, cast(Inbox, inbox), SETTINGS)
        for number in range(WAITING):
            tasks.start_soon(patient.wait, [_appended(number)], 0.5)
    assert inbox.asked >= WAITING
    assert inbox.most <= AT_ONCE


class _FullInbox:
    """Has all that is asked for."""

    async def find(self, ids: Sequence[str]) -> dict[str, Stored]:
        return {
            one: Stored(seq=1, prev=0, frame=build_frame("user:a", 1, "m", 1, '"text":"hi"'), expires_ms=None) for one in ids
        }


async def test_thousands_of_targets_cost_no_more_than_each_alone() -> None:
    """What is looked up for one target is not looked up for each of them: at ten thousand that held the loop for minutes."""
    to = ",".join(f"user:{number}" for number in range(10_000))
    posted = read_posted(f'{{"to":"{to}","text":"hi"}}'.encode(), None, "m", SETTINGS)
    outcome = Outcome(posted, stream="push:{0}:in", entry="1-0")
    asked: list[str] = []

    def shard(target: str, _shards: int) -> int:
        asked.append(target)
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(waiting, "shard_of_target", shard)
        async with fakeredis.FakeAsyncRedis(protocol=2) as redis:
            await Waiting(redis, cast(Inbox, _FullInbox()), SETTINGS).wait([outcome], 60)
    assert (len(outcome.seqs), len(asked)) == (10_000, 10_000)
