"""All children of one `up`, from the first start to the last stop.

Invariants: a child that ends by itself is started again, unless it says that it must not start or keeps ending; when
`run` returns or raises, every child has ended.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from signal import Signals
from typing import Final

import anyio
from anyio.abc import TaskGroup

from router.errors import PushwayError, SetupError
from router.retry import Backoff
from router.service import WRONG_SETUP
from router.settings import Settings
from router.up.children import Crashes, child_environment, ended, spawn, status_text, stop
from router.up.folder import begin_log, bound_log, log_tail
from router.up.plan import Plan, Spec
from router.up.prepare import prepare
from router.up.ready import Asking

READY_TIMEOUT_S: Final = 60.0
"""How long a child may take until it is ready. A Redis with gigabytes to load needs a good part of it."""

GIVEN_TIMEOUT_S: Final = 10.0
"""How long a server that was named, and is not ours to start, may take to answer."""

_RESTART_MIN_MS: Final = 200
_RESTART_MAX_MS: Final = 5_000
_LOG_CHECK_S: Final = 10.0


class ChildFailed(PushwayError):
    """A child cannot be kept running, so nothing is."""


class Supervisor:
    """Runs a plan.

    Args:
        plan: what to run.
        say: takes a line for people.
    """

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._env = child_environment(os.environ)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def pids(self) -> dict[str, int]:
        """The processes now running, by child."""
        return {name: process.pid for name, process in self._processes.items() if process.returncode is None}

    async def run(self, stop_asked: anyio.Event, when_ready: Callable[[], Awaitable[None]]) -> None:
        """Start everything, keep it running until `stop_asked` is set, and end it.

        Raises in exception groups:
            ChildFailed: when a child keeps ending, must not start, or is not ready in time.
            SetupError: when a server that was named does not answer, or is not fit for the settings.
        """
        try:
            async with anyio.create_task_group() as tg:
                tg.start_soon(_cancel_at, stop_asked, tg.cancel_scope)
                tg.start_soon(self._bound_logs)
                await self._start_all(tg)
                await when_ready()
        finally:
            with anyio.CancelScope(shield=True):
                await self._stop_all()

    def kill_all(self) -> None:
        """End every child at once."""
        for process in self._processes.values():
            process.kill()

    def signal_services(self, signum: Signals) -> None:
        """Send a signal to every service, and to none of the servers: who knows what it means to them."""
        for process in self._running(self._plan.core + self._plan.edges):
            process.send_signal(signum)

    async def _start_all(self, tg: TaskGroup) -> None:
        for url in self._plan.given_urls:
            await _answer_of_given(url, self._plan.settings)
        await self._start(tg, self._plan.servers)
        await prepare(self._plan)
        await self._start(tg, self._plan.core + self._plan.edges)

    async def _start(self, tg: TaskGroup, specs: tuple[Spec, ...]) -> None:
        """Start children side by side, and return when all are ready."""
        async with anyio.create_task_group() as starting:
            for spec in specs:
                begin_log(self._plan.log(spec.name))
                tg.start_soon(self._keep, spec)
                starting.start_soon(self._ready_in_time, spec)

    async def _ready_in_time(self, spec: Spec) -> None:
        with anyio.move_on_after(READY_TIMEOUT_S) as patience:
            await Asking(spec.ready_url, self._plan.settings).until_ready()
        if patience.cancelled_caught:
            raise self._failure(spec, f"is not ready after {READY_TIMEOUT_S:g} s")

    async def _keep(self, spec: Spec) -> None:
        """Run a child for ever."""
        crashes = Crashes()
        backoff = Backoff(_RESTART_MIN_MS, _RESTART_MAX_MS)
        while True:
            process = self._spawn(spec)
            status = await ended(process)
            if status == WRONG_SETUP:
                raise self._failure(spec, "must not start")
            if crashes.too_many(anyio.current_time()):
                raise self._failure(spec, f"keeps ending: it {status_text(status)}")
            self._say(f"{spec.name} {status_text(status)}; it is started again")
            await anyio.sleep(backoff.next_s())

    def _spawn(self, spec: Spec) -> subprocess.Popen[bytes]:
        process = spawn(spec.command, log=self._plan.log(spec.name), env=self._env, cwd=self._plan.data)
        self._processes[spec.name] = process
        return process

    def _failure(self, spec: Spec, what: str) -> ChildFailed:
        path = self._plan.log(spec.name)
        return ChildFailed(f"{spec.name} {what}. The end of {path}:\n\n{log_tail(path)}")

    async def _bound_logs(self) -> None:
        while True:
            for spec in self._plan.children:
                bound_log(self._plan.log(spec.name))
            await anyio.sleep(_LOG_CHECK_S)

    async def _stop_all(self) -> None:
        """End the children in the reverse order of their start, each group together."""
        for group in (self._plan.edges, self._plan.core, self._plan.servers):
            async with anyio.create_task_group() as tg:
                for process in self._running(group):
                    tg.start_soon(stop, process)

    def _running(self, group: Iterable[Spec]) -> list[subprocess.Popen[bytes]]:
        return [self._processes[spec.name] for spec in group if spec.name in self._processes]


async def _cancel_at(stop_asked: anyio.Event, scope: anyio.CancelScope) -> None:
    await stop_asked.wait()
    scope.cancel()


async def _answer_of_given(url: str, settings: Settings) -> None:
    asking = Asking(url, settings)
    with anyio.move_on_after(GIVEN_TIMEOUT_S) as patience:
        await asking.until_ready()
    if patience.cancelled_caught:
        kind = "MongoDB" if url.startswith("mongodb") else "Redis"
        told = f"is not to be trusted: {asking.untrusted}" if asking.untrusted else "does not answer"
        raise SetupError(f"{kind} at {url.rpartition('@')[2]} {told}")
