"""A flood of connects, each with a token that somebody has made of a good one."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from itertools import cycle
from typing import Any, Final

import anyio

from tests.attacks.target import Target

A_SECOND: Final = 300


def flood_of(ways: Sequence[Callable[[str], str]]) -> Callable[[Target, anyio.Event], Coroutine[Any, Any, None]]:
    """Return what tries these ways of making a token in turn, again and again."""

    async def run(target: Target, until: anyio.Event) -> None:
        turns = cycle(ways)

        async def one() -> None:
            with await target.peer() as peer:
                await peer.upgrade(token=next(turns)(target.token()))
                target.note(await peer.ending())

        await target.flood(A_SECOND, one, until)

    return run
