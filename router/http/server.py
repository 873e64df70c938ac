"""Serving an application: the socket it listens on, and how serving ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Generator
from typing import Any, Final, cast

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from router.crowd import Turns
from router.errors import SetupError
from router.http.protocol import ProblemProtocol
from router.http.safety import BrowserSafe
from router.tls.certificate import Certificate
from router.tls.sealed import Sealed

GRACE_S: Final = 5
"""How long requests in hand may take to finish when the server stops. They are all short."""

_DATE_EVERY_S: Final = 1.0
"""How old the date may be that answers bear, which is in whole seconds."""

BACKLOG: Final = 2048
"""Connections that the kernel keeps waiting; uvicorn's own default."""


async def serve_http(
    app: ASGIApp,
    host: str,
    port: int,
    stop: anyio.Event,
    *,
    certificate: Certificate | None = None,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application until `stop` is set; requests in hand are finished first, within `GRACE_S`.

    Started with `TaskGroup.start`, it reports when it listens. Port 0 serves none and returns at once. With a certificate it
    speaks https, and looks after that.

    Raises:
        SetupError: when the address cannot be listened on.
    """
    if port == 0:
        task_status.started()
        return
    with listen(host, port) as listener:
        await serve_on(listener, app, stop, certificate=certificate, task_status=task_status)


async def serve_on(
    listener: socket.socket,
    app: ASGIApp,
    stop: anyio.Event,
    *,
    certificate: Certificate | None = None,
    task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application as `serve_http` does, on a socket that listens already and stays the caller's to close."""
    server = _Server(app, stop, task_status, certificate)
    async with anyio.create_task_group() as tg:
        if certificate is not None:
            tg.start_soon(certificate.run)
        try:
            await server.serve(sockets=[listener])
        finally:
            server.close()
        tg.cancel_scope.cancel()


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `router.service` decides when a process stops."""

    def __init__(self, app: ASGIApp, stop: anyio.Event, task_status: TaskStatus[None], certificate: Certificate | None) -> None:
        super().__init__(
            uvicorn.Config(
                BrowserSafe(app),
                http=ProblemProtocol if certificate is None else _sealed(certificate),
                # Nothing here is a WebSocket, and nobody's word is taken for where a request comes from.
                ws="none",
                proxy_headers=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=GRACE_S,
            )
        )
        self._stop = stop
        self._task_status = task_status

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._task_status.started()

    async def main_loop(self) -> None:
        # uvicorn's own looks ten times a second whether it is to stop, and at each tenth look at the date.
        while not self._stop.is_set():
            await self.on_tick(0)
            with anyio.move_on_after(_DATE_EVERY_S):
                await self._stop.wait()

    def close(self) -> None:
        """Close what a cancelled `serve` leaves open; after a graceful end there is nothing left."""
        for server in getattr(self, "servers", []):
            server.close()
        for connection in self.server_state.connections:
            connection.shutdown()


def _sealed(certificate: Certificate) -> type[asyncio.Protocol]:
    """Return what makes a protocol for a connection, with TLS below it: not uvicorn's own TLS, which has one certificate."""
    turns = Turns(asyncio.get_running_loop().call_soon)

    def make(**told: Any) -> asyncio.Protocol:  # noqa: ANN401 - what uvicorn tells its protocols
        return Sealed(ProblemProtocol(**told), certificate.context, turns)

    return cast(type[asyncio.Protocol], make)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; who connects waits until it is served.

    Raises:
        SetupError: when the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # uvicorn would end the process without a word that names the setting.
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as exc:
        raise SetupError(f"cannot listen on {host}:{port} ({exc.strerror or exc}): free it or set another port.") from exc
