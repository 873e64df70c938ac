"""Asking the work on a shard to end where nothing is in hand, so that another worker can go on at once.

To cut work off anywhere loses nothing either, but what was in hand is then done again.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import cast


class Handover:
    """Whether a shard is to be given back: told by who shares shards, asked by the work between two turns."""

    def __init__(self) -> None:
        self.asked = False
        self._idle = _Idle()

    def begin(self) -> None:
        """Note that the shard has been taken: nobody wants it back yet."""
        self.asked = False

    def ask(self) -> None:
        """Ask the work to end with its present turn, which is now where it waits."""
        self.asked = True
        self._idle.leave()

    def idle(self) -> _Idle:
        """Wait in this block with nothing in hand: it is left when the shard is asked for."""
        if self.asked:
            # Not before it has begun: a task that is cancelled and then waits for nothing is cut off wherever it waits next.
            asyncio.get_running_loop().call_soon(self._idle.leave)
        return self._idle


class _Idle:
    """A block that one task at a time waits in, and can be made to leave.

    It is entered for every message that comes alone, for which a cancel scope is dear: it takes twice as long as waking a task.
    This is what `asyncio.timeout` does, without the time.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[object] | None = None
        self._left = False
        self._cancelling = 0

    def leave(self) -> None:
        """Have whoever waits in it leave it."""
        if self._task is not None and not self._left:
            self._left = True
            self._task.cancel()

    def __enter__(self) -> None:
        self._task = cast("asyncio.Task[object]", asyncio.current_task())
        self._left, self._cancelling = False, self._task.cancelling()

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> bool:
        task, self._task = self._task, None
        if task is None or not self._left:
            return False
        # Who is cancelled from outside as well stays so.
        return task.uncancel() <= self._cancelling and kind is asyncio.CancelledError
