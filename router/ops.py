"""What an operator asks a service: does it live, is it ready, what are its figures.

Served on the ops port, never on a public one.
/livez ignores dependencies: restarting a process does not mend the Redis it waits for.
"""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


class Health:
    """The conditions that a service must meet to be given work, each under a name.

    A service that has not stated any condition yet is still starting, so it is not ready.
    """

    def __init__(self) -> None:
        self._unmet: dict[str, str | None] = {}

    def set(self, name: str, *, ok: bool, why: str = "") -> None:
        """State whether a condition is met; `why` says in words what is missing when it is not."""
        self._unmet[name] = None if ok else why or "not met"

    @property
    def ready(self) -> bool:
        """Whether there is a condition at all and each of them is met."""
        return bool(self._unmet) and not self.reasons

    @property
    def reasons(self) -> dict[str, str]:
        """The conditions that are not met: name → what is missing."""
        return {name: why for name, why in self._unmet.items() if why is not None}


def ops_app(health: Health, figures: CollectorRegistry = REGISTRY) -> Starlette:
    """Return the application with /livez, /readyz and /metrics, which shows these figures: all of the process unless told."""

    async def livez(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_request: Request) -> Response:
        ready = health.ready
        return JSONResponse({"ready": ready, "reasons": health.reasons}, status_code=200 if ready else 503)

    async def metrics(request: Request) -> Response:
        encode, media_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(figures), headers={"content-type": media_type})

    return Starlette(routes=[Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)])
