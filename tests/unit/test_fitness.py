"""router.fitness: whoever waits for a server says so."""

from __future__ import annotations

from typing import Any, cast

import anyio
import pytest
from anyio import to_thread
from structlog.testing import capture_logs

from router import fitness
from router.inbox import Inbox
from router.ops import Health
from router.settings import Settings
from tests.servers import wait_until

pytestmark = pytest.mark.anyio


class _Silent:
    """An inbox whose server answers when it is let."""

    def __init__(self) -> None:
        self.answers = anyio.Event()

    async def check(self) -> None:
        """Answer."""
        await self.answers.wait()


async def _events(inbox: _Silent) -> list[str]:
    with capture_logs() as lines:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fitness.await_inbox, cast("Inbox", cast("Any", inbox)), Settings(), Health())
            await to_thread.run_sync(wait_until, lambda: bool(lines) or inbox.answers.is_set(), "it is told")
            inbox.answers.set()
    return [line["event"] for line in lines]


async def test_a_first_answer_that_is_late_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is patient, and people would take a silent service for a stuck one."""
    monkeypatch.setattr(fitness, "SILENCE_S", 0.01)
    assert await _events(_Silent()) == ["server_awaited"]


async def test_one_in_time_is_not() -> None:
    """A service that starts well has nothing to say of it."""
    inbox = _Silent()
    inbox.answers.set()
    assert await _events(inbox) == []
