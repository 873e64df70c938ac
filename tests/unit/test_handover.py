"""router.handover: work ends where nothing is in hand."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from router.handover import Handover
from router.ops import Health
from router.outage import Outages
from router.settings import Settings
from router.streams import NEW
from router.turns import take_turns

pytestmark = pytest.mark.anyio


async def test_a_turn_is_brought_to_its_end() -> None:
    """Asked in the middle of one, the work ends behind it."""
    handover, steps = Handover(), []

    async def turn(_start: str) -> str:
        steps.append("begun")
        handover.ask()
        await anyio.lowlevel.checkpoint()
        steps.append("ended")
        return NEW

    await take_turns(turn, Outages(Health(), Settings()), handover)
    assert steps == ["begun", "ended"]


async def test_waiting_is_cut_short() -> None:
    """Asked while it waits for news, the work ends at once."""
    handover, waiting = Handover(), anyio.Event()

    async def turn(_start: str) -> str:
        with handover.idle():
            waiting.set()
            await anyio.sleep_forever()
        return NEW

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take_turns, turn, Outages(Health(), Settings()), handover)
            await waiting.wait()
            handover.ask()


async def test_asked_before_it_waits() -> None:
    """What was asked during a batch cuts the wait behind it short; a new lease begins unasked."""
    handover = Handover()
    handover.ask()
    with anyio.fail_after(10), handover.idle():
        await anyio.sleep_forever()
    handover.begin()
    with handover.idle():
        await anyio.lowlevel.checkpoint()
    assert not handover.asked


async def test_cancellation_passes() -> None:
    """A lost lease cancels the work, and no wait takes that for its own."""
    handover = Handover()
    with anyio.CancelScope() as scope:
        scope.cancel()
        with handover.idle():
            await anyio.sleep_forever()
        raise AssertionError
    assert scope.cancelled_caught


async def test_who_does_not_wait_is_not_cut_off() -> None:
    """Asked for, and with news at hand: the block ends by itself, and nothing behind it is cancelled."""
    handover = Handover()
    handover.ask()
    for _ in range(2):
        with handover.idle():
            pass
        await anyio.lowlevel.checkpoint()


async def test_asked_for_and_cancelled() -> None:
    """In the same moment: it is cancelled at the latest where it waits next."""
    handover = Handover()
    with anyio.CancelScope() as scope:
        with handover.idle():
            handover.ask()
            scope.cancel()
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        raise AssertionError
    assert scope.cancelled_caught
