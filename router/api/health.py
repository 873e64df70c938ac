"""/readyz of the API.

It answers for the whole of a system that runs on one machine: collect's own conditions, and those of the processes whose
addresses stand in `api_ready_urls`.
"""

from __future__ import annotations

import ssl
from http import HTTPStatus
from typing import Final

import anyio
import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response

from router.http.operations import JSON, Answer, Operation
from router.ops import Health
from router.settings import Settings
from router.tls.trust import http_trust

_ASK_TIMEOUT_S: Final = 2.0


class ReadyState(msgspec.Struct, frozen=True):
    """Whether all of it is ready; `reasons` says of each part that is not, why."""

    ready: bool
    reasons: dict[str, str]


GET_READYZ: Final = Operation(
    id="get_readyz",
    method="GET",
    path="/readyz",
    summary="Whether the system is ready",
    description="Answers for collect and, on one machine, for all services beside it (the setting `api_ready_urls`).",
    answers=(
        Answer(HTTPStatus.OK, ReadyState, "All of it is ready.", example=ReadyState(ready=True, reasons={})),
        Answer(HTTPStatus.SERVICE_UNAVAILABLE, ReadyState, "Some of it is not."),
    ),
    scope=None,
)


class Readiness:
    """Answers /readyz.

    Args:
        settings: `api_ready_urls`.
        health: collect's own.
    """

    def __init__(self, settings: Settings, health: Health) -> None:
        self._urls = settings.api_ready_urls
        self._health = health
        self._trust = http_trust(settings)

    async def get(self, _request: Request) -> Response:
        """Say whether all of it is ready, and what is not."""
        reasons = {f"collect {name}": why for name, why in self._health.reasons.items()}
        reasons |= await unready(self._urls, self._trust)
        ready = self._health.ready and not reasons
        return Response(
            msgspec.json.encode(ReadyState(ready, reasons)),
            HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE,
            media_type=JSON,
        )


async def unready(urls: tuple[str, ...], trust: ssl.SSLContext) -> dict[str, str]:
    """Ask other processes whether they are ready, all at once, and return url → why not for those that are not."""
    reasons: dict[str, str] = {}

    async def ask(client: httpx.AsyncClient, url: str) -> None:
        try:
            answer = await client.get(url)
        except httpx.HTTPError as exc:
            reasons[url] = f"does not answer ({type(exc).__name__})"
        else:
            if answer.status_code != httpx.codes.OK:
                reasons[url] = _why_not(answer)[:500]

    # No proxy from the environment: they are neighbours.
    async with (
        httpx.AsyncClient(timeout=_ASK_TIMEOUT_S, trust_env=False, verify=trust) as client,
        anyio.create_task_group() as tasks,
    ):
        for url in urls:
            tasks.start_soon(ask, client, url)
    return reasons


def _why_not(answer: httpx.Response) -> str:
    """Return in words what a process answered that is not ready: JSON within JSON is hard to read at night."""
    try:
        reasons = msgspec.json.decode(answer.content, type=ReadyState).reasons
    except msgspec.DecodeError:
        return answer.text
    return "; ".join(f"{name}: {why}" for name, why in reasons.items()) or "it is still starting"
