"""Several processes of one service that share a port, kept running by the one that was started.

    pushway edge --workers 2 ─┬─ edge-1   a node of its own, with an ops port of its own
                              └─ edge-2   …

The kernel shares out new connections among them (SO_REUSEPORT). A process that ends by itself is started again, unless it
says that it must not start or keeps ending; then all end. SIGTERM or SIGINT has all end in their own time, a second at once;
other signals that mean something to a service are handed on. When `run` returns, every one of them has ended.

Source: https://man7.org/linux/man-pages/man7/socket.7.html (SO_REUSEPORT)
"""

from __future__ import annotations

import signal
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import anyio
import structlog

from router.logs import configure
from router.retry import Backoff
from router.service import FAILED, LOGS_AS_SET, LOOK_AGAIN, MORE_LOGS, OK, WRONG_SETUP
from router.settings import Settings
from router.up.children import Crashes, ended, spawn, status_text

_RESTART_MIN_MS: Final = 200
_RESTART_MAX_MS: Final = 5_000
_END_MARGIN_S: Final = 10.0
_HANDED_ON: Final = (MORE_LOGS, LOGS_AS_SET, LOOK_AGAIN)

log = structlog.get_logger(__name__)


def run_processes(name: str, settings: Settings, commands: Mapping[str, Sequence[str]]) -> int:
    """Run processes to their end, and return the exit code of this process. Call it from the main thread.

    Args:
        name: of the service, which log lines carry.
        settings: those that all of them share.
        commands: name → command line of each.
    """
    logs = configure(settings, name)
    try:
        return anyio.run(Processes(commands, _longest_end_s(settings)).run)
    finally:
        logs.tell_suppressed(at_end=True)


class Processes:
    """The processes of one service.

    Args:
        commands: name → command line of each.
        end_timeout_s: how long one may take to end once told to; then it is killed.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], end_timeout_s: float) -> None:
        self._commands = commands
        self._end_timeout_s = end_timeout_s
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopping = anyio.Event()
        self._code = OK

    async def run(self) -> int:
        """Keep them running until a signal says otherwise; return the exit code."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, *_HANDED_ON) as signals:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._obey, signals)
                tasks.start_soon(self._end_all)
                async with anyio.create_task_group() as keeping:
                    for name, command in self._commands.items():
                        keeping.start_soon(self._keep, name, command)
                tasks.cancel_scope.cancel()
        log.info("processes_ended")
        return self._code

    async def _obey(self, signals: AsyncIterator[signal.Signals]) -> None:
        async for signum in signals:
            if signum in _HANDED_ON:
                self._send(signum)
            elif self._stopping.is_set():
                self._send(signal.SIGTERM)
            else:
                log.info("stop_requested", signal=signum.name)
                self._stopping.set()

    async def _end_all(self) -> None:
        await self._stopping.wait()
        self._send(signal.SIGTERM)
        await anyio.sleep(self._end_timeout_s)
        self._send(signal.SIGKILL)

    async def _keep(self, name: str, command: Sequence[str]) -> None:
        """Run a process until all are to end."""
        crashes, backoff = Crashes(), Backoff(_RESTART_MIN_MS, _RESTART_MAX_MS)
        while not self._stopping.is_set():
            process = self._running[name] = spawn(command)
            log.info("process_started", name=name, pid=process.pid)
            status = await ended(process)
            del self._running[name]
            self._judge(name, status, crashes)
            with anyio.move_on_after(backoff.next_s()):
                await self._stopping.wait()

    def _judge(self, name: str, status: int, crashes: Crashes) -> None:
        """Take note of a process' end, and have all end where that is for good."""
        if self._stopping.is_set():
            # One that was told before it listened to signals ended by it.
            if status not in {OK, -signal.SIGTERM}:
                self._code = self._code or FAILED
            return
        log.warning("process_ended", name=name, how=status_text(status))
        if status == WRONG_SETUP or crashes.too_many(anyio.current_time()):
            self._code = WRONG_SETUP if status == WRONG_SETUP else FAILED
            self._stopping.set()

    def _send(self, signum: signal.Signals) -> None:
        for process in self._running.values():
            process.send_signal(signum)


def _longest_end_s(settings: Settings) -> float:
    """Return how long an edge may take to end: its drain, its last closes, and what it then has to write."""
    written_s = settings.redis_timeout_s + settings.mongo_timeout_s
    return settings.drain_timeout_s + settings.close_timeout_s + written_s + _END_MARGIN_S
