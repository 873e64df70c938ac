"""`pushway tap`: what is published to a node, live.

Three hands: the event loop hears and watches, a thread prints, and between them stand at most `_WAITING_MAX` lines. The loop
never waits for the terminal: behind a pager that nobody scrolls it still leaves when the node dies.
"""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Final

import anyio
import msgspec
import typer

from router.commands.options import AsJson, FoundConfig, people_settings
from router.commands.output import printable
from router.commands.reach import redis_at_hand
from router.commands.tapping import PROBE, Line, choose, listen, read_lines
from router.directory import read_nodes
from router.errors import PushwayError
from router.redis_client import OUTAGE
from router.settings import Settings
from router.targets import check_target

_WAITING_MAX: Final = 10_000
_JOIN_TIMEOUT_S: Final = 1.0
_FRAME_MIN: Final = 20

_STOPPED: Final = "a stopped tap could not leave its node in time, so it has ended instead"


def tap(
    node: Annotated[str | None, typer.Argument(help="Its name or id; may be left out where only one lives.")] = None,
    target: Annotated[str | None, typer.Option("--target", help="Only what is for this target, as user:alice.")] = None,
    probes: Annotated[
        bool, typer.Option("--probes", help="Also the probes by which the edge makes sure that it hears.")
    ] = False,
    count: Annotated[int | None, typer.Option("--count", min=1, help="End after so many lines.")] = None,
    config: FoundConfig = None,
    as_json: AsJson = False,
) -> None:
    """Print what is published to a node, live, until Ctrl-C.

    A line a message: when, for whom, its seq (- when it is transient), the bytes of its frame, the frame. It listens only as
    long as the edge itself does, and ends by itself, with exit code 1, when that is dead or deaf.

    Example: pushway tap edge-1 --target user:alice
    """
    if target is not None:
        check_target(target, "--target")
    anyio.run(_tap, people_settings(config), node, Filter(target, probes, count), as_json)


class Filter:
    """Which lines are wanted.

    Args:
        target: only those for it; None for all.
        probes: probes as well.
        count: so many; None for all that come.
    """

    def __init__(self, target: str | None, probes: bool, count: int | None) -> None:
        self._target = target
        self._probes = probes
        self._left = count

    @property
    def over(self) -> bool:
        """Whether no further line is wanted."""
        return self._left == 0

    def take(self, line: Line) -> bool:
        """Tell whether this line is wanted, and count it."""
        wanted = not self.over and (self._probes if line.target == PROBE else self._target in {None, line.target})
        if wanted and self._left is not None:
            self._left -= 1
        return wanted


class Printer:
    """Prints in a thread of its own, as fast as standard output takes it.

    Attributes:
        skipped: how many lines were left out, because too many were waiting.
    """

    def __init__(self, gone: Callable[[], None]) -> None:
        self.skipped = 0
        self._lines: queue.Queue[str | None] = queue.Queue(_WAITING_MAX)
        self._gone = gone
        # A daemon: one that is stuck in a write must not keep the command from ending.
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, text: str) -> None:
        """Have a line printed soon."""
        try:
            self._lines.put_nowait(text)
        except queue.Full:
            self.skipped += 1

    def close(self) -> None:
        """Wait a moment until all is printed."""
        try:
            self._lines.put(None, timeout=_JOIN_TIMEOUT_S)
        except queue.Full:
            return
        self._thread.join(_JOIN_TIMEOUT_S)

    def _run(self) -> None:
        try:
            while (text := self._lines.get()) is not None:
                # Not by way of sys.stdout, whose lock a stuck write would hold when the interpreter wants it at its end.
                _write(sys.stdout.fileno(), f"{text}\n".encode())
        except OSError:  # whoever read it has gone, as `head` does
            self._gone()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


async def _tap(settings: Settings, wanted: str | None, lines: Filter, as_json: bool) -> None:
    """Tap until the end; raise what ended it, when that was not asked for."""
    ended, loop = anyio.Event(), asyncio.get_running_loop()
    describe = in_json if as_json else _for_people()

    def gone() -> None:
        loop.call_soon_threadsafe(ended.set)

    printer = Printer(gone)

    def receive(payloads: list[bytes]) -> None:
        now = datetime.now(UTC)
        for line in (line for payload in payloads for text in payload.split(b"\n") for line in read_lines(text)):
            if lines.take(line):
                printer.put(describe(line, now))
        if lines.over:
            ended.set()

    try:
        async with redis_at_hand(settings) as redis:
            node = choose(await read_nodes(redis, settings), wanted)
            ready = partial(_say, f"listening to {node}, as long as its edge does; Ctrl-C ends it")
            await _until(ended, partial(listen, redis, settings, node, receive, ready))
    finally:
        printer.close()
        if printer.skipped:
            _say(f"{printer.skipped:,} lines were left out: they came faster than they were printed")


async def _until(ended: anyio.Event, work: Callable[[], Awaitable[None]]) -> None:
    """Work until `ended` is set, a signal comes, or the work fails; raise its error as it is."""
    failures: list[Exception] = []

    async def run() -> None:
        try:
            await work()
        except (PushwayError, *OUTAGE) as exc:
            failures.append(exc)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(_obey, ended)
        await ended.wait()
        tasks.cancel_scope.cancel()
    if failures:
        raise failures[0]


async def _obey(ended: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGTSTP) as signals:
        async for signum in signals:
            if signum == signal.SIGTSTP:
                _say(_STOPPED)
            ended.set()


def _for_people() -> Callable[[Line, datetime], str]:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    return lambda line, at: in_words(line, at, width)


def in_words(line: Line, at: datetime, width: int | None) -> str:
    """Return a line for people, cut to a width in characters, but for a beginning of the frame."""
    when = at.astimezone().strftime("%H:%M:%S.%f")[:-3]
    head = f"{when}  {printable(line.target)}  {printable(line.seq)}  {len(line.frame)} B  "
    frame = printable(line.frame.decode(errors="backslashreplace"))
    room = len(frame) if width is None else max(_FRAME_MIN, width - len(head))
    return head + (frame if len(frame) <= room else f"{frame[: room - 1]}…")


def in_json(line: Line, at: datetime) -> str:
    """Return a line as a JSON object; its frame is an object too, or a text where it is not JSON."""
    told = {"at": at, "target": line.target, "prev": line.prev, "seq": line.seq, "opts": line.opts, "bytes": len(line.frame)}
    return msgspec.json.encode(told | {"frame": _frame(line.frame)}).decode()


def _frame(frame: bytes) -> object:
    try:
        msgspec.json.decode(frame)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return frame.decode(errors="backslashreplace")
    return msgspec.Raw(frame)


def _say(text: str) -> None:
    typer.secho(printable(text), dim=True, err=True)
