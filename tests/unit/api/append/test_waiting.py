"""router.api.append.waiting: those who wait leave MongoDB to those who store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

import anyio
import fakeredis
import pytest

from router.api.append.answers import Outcome
from router.api.append.reading import read_posted
from router.api.append.waiting import Waiting
from router.inbox import Inbox
from router.settings import Settings

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
        waiting = Waiting(redis, cast(Inbox, inbox), SETTINGS)
        for number in range(WAITING):
            tasks.start_soon(waiting.wait, [_appended(number)], 0.5)
    assert inbox.asked >= WAITING
    assert inbox.most <= AT_ONCE
