"""The Python client on the real system: exactly once while it lives, at least once whatever kills it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from edge.client import Client, FileCursors, Parted, Pauses, Status
from tests.cable import cable
from tests.e2e.audience import PATIENCE_S, Producer
from tests.servers import Process, wait_until
from tests.stack import Stack

pytestmark = pytest.mark.anyio

QUICK: Final = Pauses(min_s=0.01, max_s=0.1)
CUTS: Final = 20
LIVES: Final = 6


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, with two edges."""
    with Stack(tmp_path_factory.mktemp("stack")) as running:
        yield running


class Handler(Process):
    """A running `tests.e2e.handler`."""

    def __init__(self, folder: Path, life: int, *words: str) -> None:
        super().__init__(f"handler-{life}", folder / f"handler-{life}.log")
        self._file = folder / f"handled-{life}"
        self._words = words

    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, "-m", "tests.e2e.handler", str(self._file), *self._words]

    def answers(self) -> bool:
        """Tell whether it has had a session."""
        return self._file.exists()

    @property
    def handled(self) -> list[int]:
        """The numbers it has handled, in order."""
        return [int(line) for line in self._file.read_text().splitlines()]


class Lives:
    """One application, life after life, each ended with kill -9."""

    def __init__(
        self, stack: Stack, folder: Path, user: str, *, device: bool, every: int = 100, interval_s: float = 1.0
    ) -> None:
        cursors, name = ("-", "phone") if device else (str(folder / "cursors"), "-")
        self._words = (stack.token(user), cursors, name, str(every), str(interval_s), *stack.edge_urls)
        self._folder = folder
        self.all: list[list[int]] = []

    def with_every_message_kept(self) -> Lives:
        """Return the same application, further on, with acks and cursors after each message."""
        careful = copy(self)
        careful._words = (*self._words[:3], "1", *self._words[4:])
        return careful

    def live_until(self, handled: int) -> list[int]:
        """Start it, kill it when it has handled so many or more, and return what it handled."""
        return self._live(lambda numbers: len(numbers) >= handled, f"{handled} handled")

    def live_through(self, number: int) -> list[int]:
        """Start it, kill it when it has handled the message of this number, and return what it handled."""
        return self._live(lambda numbers: number in numbers, f"number {number} handled")

    def _live(self, enough: Callable[[list[int]], bool], what: str) -> list[int]:
        handler = Handler(self._folder, len(self.all), *self._words)
        with handler:
            wait_until(lambda: enough(handler.handled), what)
        self.all.append(handler.handled)
        return handler.handled

    def begin(self) -> None:
        """Live until the first cursor is surely kept, where nothing has been sent yet."""
        with Handler(self._folder, -1, *self._words):
            wait_until(lambda: self._words[1] == "-" or Path(self._words[1]).exists(), "the first cursor")


async def test_each_message_once_across_twenty_cuts(stack: Stack, tmp_path: Path) -> None:
    """Connections to both edges are cut while messages come, and the application sees nothing of it."""
    token = await anyio.to_thread.run_sync(stack.token, "ann")

    async def give() -> str:
        return token

    told: list[Status] = []
    got: list[int] = []
    producer = Producer(stack, ("ann",))
    enough = anyio.Event()
    options: dict[str, Any] = {"device": "phone", "cursors": FileCursors(tmp_path / "c"), "since": 0, "pauses": QUICK}
    async with (
        cable(stack.edge_urls[0]) as one,
        cable(stack.edge_urls[1]) as two,
        Client([one.url, two.url], give, on_status=told.append, **options) as client,
    ):
        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(producer.send_until, enough, pause_s=0.001))
                while not enough.is_set():
                    got.append((await anext(client)).body["n"])
                    if len(got) % 17 == 0:
                        await one.cut()
                        await two.cut()
                    if _partings(told) >= CUTS:
                        enough.set()
            while len(got) < len(producer.sent["ann"]):
                got.append((await anext(client)).body["n"])
    assert got == producer.sent["ann"]


def _partings(told: list[Status]) -> int:
    return sum(isinstance(status, Parted) for status in told)


@pytest.mark.parametrize("device", [True, False], ids=["device", "file"])
async def test_killed_between_handling_and_ack_gets_it_again(stack: Stack, tmp_path: Path, device: bool) -> None:
    """What was handled and neither kept nor acknowledged comes again, whole and in order; what was, does not."""
    user = f"bea-{device}"
    producer = Producer(stack, (user,))
    forgetful = Lives(stack, tmp_path, user, device=device, every=1_000, interval_s=600)
    await anyio.to_thread.run_sync(forgetful.begin)
    await producer.send(10)
    for _ in range(2):
        assert await anyio.to_thread.run_sync(forgetful.live_until, 10) == list(range(10))
    careful = forgetful.with_every_message_kept()
    first = await anyio.to_thread.run_sync(careful.live_until, 10)
    await producer.send(1)
    # The last of the first ten comes once more where the process was killed before it had kept that one.
    then = await anyio.to_thread.run_sync(careful.live_through, 10)
    assert first == list(range(10))
    assert then == list(range(then[0], 11))


@pytest.mark.parametrize("device", [True, False], ids=["device", "file"])
async def test_killed_again_and_again_loses_nothing(stack: Stack, tmp_path: Path, device: bool) -> None:
    """Life after life, while messages come: each goes on behind what was kept, none is missing in the end."""
    user = f"cia-{device}"
    producer = Producer(stack, (user,))
    lives = Lives(stack, tmp_path, user, device=device, every=7, interval_s=0.1)
    await anyio.to_thread.run_sync(lives.begin)
    enough = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(partial(producer.send_until, enough, pause_s=0.005))
        for life in range(LIVES):
            await anyio.to_thread.run_sync(lives.live_until, 20 + 13 * life)
        enough.set()
    last = await anyio.to_thread.run_sync(_last_life, lives, producer.sent[user][-1])
    handled = 0
    for numbers in lives.all:
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "once and in order within a life"
        assert numbers[0] <= handled, "nothing passed over from one life to the next"
        handled = max(handled, numbers[-1] + 1)
    assert last == producer.sent[user][-1]


def _last_life(lives: Lives, newest: int) -> int:
    while lives.live_until(handled=1)[-1] < newest:
        pass
    return lives.all[-1][-1]
