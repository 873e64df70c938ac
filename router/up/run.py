"""`pushway up` from its first check to its last word."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable

import anyio

from router.auth.client import request_token
from router.errors import PushwayError, SetupError
from router.service import LOGS_AS_SET, MORE_LOGS
from router.settings import Settings
from router.up.folder import kept, locked
from router.up.plan import CONFIG_NAME, Plan, Request, make_plan
from router.up.ready import check_ports
from router.up.report import USER, Report, make_report
from router.up.supervisor import Supervisor


async def run(request: Request, settings: Settings, say: Callable[[str], None], show: Callable[[Report], None]) -> None:
    """Run everything until a signal asks for the end.

    Args:
        request: what is asked.
        settings: those that `up` does not decide itself.
        say: takes a line for people.
        show: takes the report when all of it is ready.

    Raises:
        SettingError: for a request that cannot be met.
        SetupError: when something is in the way: a folder, a port, a package, a server.
        ChildFailed: when a child cannot be kept running. Nothing is left running then either.
    """
    with locked(request.data):
        plan = make_plan(request, settings, kept(request.data / CONFIG_NAME))
        check_ports(plan.ports)
        try:
            await _supervise(plan, say, show)
        except ExceptionGroup as group:  # the task groups below wrap whatever goes wrong
            ours, others = group.split(PushwayError)
            if ours is None or others is not None:
                raise
            raise _first(ours) from None
    say(f"Ended, and nothing is left running. The data stays in {plan.data}.")


async def _supervise(plan: Plan, say: Callable[[str], None], show: Callable[[Report], None]) -> None:
    supervisor = Supervisor(plan, say)
    stop = anyio.Event()

    async def when_ready() -> None:
        show(make_report(plan, await _token(plan.settings), supervisor.pids))

    # SIGHUP: the terminal was closed.
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, MORE_LOGS, LOGS_AS_SET)
    with anyio.open_signal_receiver(*asked) as signals:
        async with anyio.create_task_group() as tg:
            tg.start_soon(_obey, signals, supervisor, stop, say)
            say(f"Starting {', '.join(spec.name for spec in plan.children)} …")
            await supervisor.run(stop, when_ready)
            tg.cancel_scope.cancel()


async def _obey(
    signals: AsyncIterator[signal.Signals], supervisor: Supervisor, stop: anyio.Event, say: Callable[[str], None]
) -> None:
    """End calmly at the first signal, and at once at the second; those for the logs are for the services."""
    async for signum in signals:
        if signum in {MORE_LOGS, LOGS_AS_SET}:
            supervisor.signal_services(signum)
        elif stop.is_set():
            supervisor.kill_all()
        else:
            say("Ending …")
            stop.set()


async def _token(settings: Settings) -> str:
    try:
        return (await request_token(settings, USER)).token
    except ConnectionError as exc:
        raise SetupError(str(exc)) from None


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error
