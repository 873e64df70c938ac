"""Most of the sentinels say who the primary is; whoever asks them and is cut off leaves nothing open."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tests.chaos.sentinel import Sentinel, Sentinels, majority
from tests.servers import EmbeddedValkey

TURNS_MAX = 60
"""Turns of the event loop after which somebody who asks is cut off at the latest: an answer takes fewer."""


def test_majority() -> None:
    """One sentinel alone moves nothing, and two that disagree neither."""
    assert majority([1, 2, 2], 2) == 2
    assert majority([1, 2, None], 2) is None
    assert majority([None, None, None], 2) is None


@pytest.mark.anyio
async def test_cut_off_while_asking(valkey_server: EmbeddedValkey, tmp_path: Path) -> None:
    """At whatever moment it is: a connection that stays open is found when the garbage is collected, in another test."""
    sentinel = Sentinel("sentinel", tmp_path, primary_port=valkey_server.port)
    sentinel.port = valkey_server.port  # which is none, and says so
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        gc.collect()
        found.clear()  # what others have left
        for turns in range(TURNS_MAX):
            await _ask_for(turns, Sentinels([sentinel]))
        gc.collect()
    assert [str(warning.message) for warning in found] == []


async def _ask_for(turns: int, sentinels: Sentinels) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sentinels.primary_port)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
