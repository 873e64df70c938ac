"""How a service lives: from its settings to its exit code.

SIGTERM or SIGINT sets the stop event, and the service ends in its own time; a second signal cancels it at once. The ops
port is served beside it to the very end, so that a draining service still says that it is draining. SIGUSR1 has it log more,
SIGUSR2 as much as it is set to. SIGHUP has it look at the files of its certificate; it ends no service.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import anyio
import structlog

from router.errors import SetupError
from router.http.server import serve_http
from router.logs import Logs, configure
from router.metrics import registry_of
from router.ops import Health, ops_app
from router.settings import Settings
from router.tls.certificate import look_again

OK: Final = 0
FAILED: Final = 1
WRONG_SETUP: Final = 2

MORE_LOGS: Final = signal.SIGUSR1
LOGS_AS_SET: Final = signal.SIGUSR2
"""What changes the level of the logs; `up` hands both on to its services."""

LOOK_AGAIN: Final = signal.SIGHUP

_COLLECT_AFTER: Final = (10_000, 5, 5)
"""From how many new objects on the garbage collector looks at the youngest, and how many of its looks make one at the older.

Python's own (700, 10, 10) is made for programs that keep little. What comes and goes here is freed without the collector; what
stays, such as a connection's objects, it would look through again and again.
"""

Serve = Callable[[Settings, Health, anyio.Event], Awaitable[None]]
"""A service: runs until the event is set, then ends cleanly. Raises SetupError when it must not start."""

log = structlog.get_logger(__name__)


def run(name: str, settings: Settings, serve: Serve) -> int:
    """Run a service to its end and return the exit code of the process.

    Args:
        name: what its log lines carry.
        settings: the settings in force.
        serve: the service itself.
    """
    logs = configure(settings, name)
    _spare_what_stays()
    try:
        return anyio.run(_until_stopped, name, settings, serve, logs, backend_options={"use_uvloop": True})
    except ExceptionGroup as group:  # the task groups below wrap whatever ends a service
        unfit, crash = group.split(SetupError)
        if crash is None and unfit is not None:
            sys.stderr.write(f"pushway {name}: {_first(unfit)}\n")
            return WRONG_SETUP
        log.critical("service_crashed", exc_info=group)
        return FAILED
    finally:
        logs.tell_suppressed(at_end=True)


def _spare_what_stays() -> None:
    """Have the garbage collector never look at what the imports have made, and seldom at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


async def cancel_at(stop: anyio.Event, scope: anyio.CancelScope) -> None:
    """Cancel a service's tasks when it is to stop, for a service that may be cut off anywhere."""
    await stop.wait()
    scope.cancel()


async def _until_stopped(name: str, settings: Settings, serve: Serve, logs: Logs) -> int:
    stop = anyio.Event()
    code = FAILED  # which is what remains when a second signal cuts the service off
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, MORE_LOGS, LOGS_AS_SET, LOOK_AGAIN) as signals:
        async with anyio.create_task_group() as tg:
            tg.start_soon(_obey, signals, stop, tg.cancel_scope, logs)
            tg.start_soon(logs.run)
            await _beside_ops(name, settings, serve, stop)
            code = OK
            tg.cancel_scope.cancel()
    return code


async def _obey(signals: AsyncIterator[signal.Signals], stop: anyio.Event, scope: anyio.CancelScope, logs: Logs) -> None:
    async for signum in signals:
        if signum == MORE_LOGS:
            logs.say_more()
        elif signum == LOGS_AS_SET:
            logs.say_as_set()
        elif signum == LOOK_AGAIN:
            log.info("look_requested", signal=signum.name)
            look_again()
        elif stop.is_set():
            log.warning("service_cancelled", signal=signum.name)
            scope.cancel()
            return
        else:
            log.info("stop_requested", signal=signum.name)
            stop.set()


async def _beside_ops(name: str, settings: Settings, serve: Serve, stop: anyio.Event) -> None:
    health = Health()
    ended = anyio.Event()
    async with anyio.create_task_group() as tg:
        await tg.start(serve_http, ops_app(health, registry_of(name)), settings.ops_host, settings.ops_port, ended)
        await serve(settings, health, stop)
        ended.set()
    log.info("service_ended")


def _first(error: Exception) -> Exception:
    return _first(error.exceptions[0]) if isinstance(error, ExceptionGroup) else error
