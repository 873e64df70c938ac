"""/readyz of the API.

It answers for the whole of a system that runs on one machine: collect's own conditions, and those of the processes whose
addresses stand in `api_ready_urls`.
"""

from __future__ import annotations

from typing import Final

import anyio
import httpx
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from router.ops import Health
from router.settings import Settings

_ASK_TIMEOUT_S: Final = 2.0


class Readiness:
    """Answers /readyz.

    Args:
        settings: `api_ready_urls`.
        health: collect's own.
    """

    def __init__(self, settings: Settings, health: Health) -> None:
        self._urls = settings.api_ready_urls
        self._health = health

    async def get(self, _request: Request) -> Response:
        """Say whether all of it is ready, and what is not."""
        reasons = {f"collect {name}": why for name, why in self._health.reasons.items()}
        reasons |= await unready(self._urls)
        ready = self._health.ready and not reasons
        return JSONResponse({"ready": ready, "reasons": reasons}, status_code=200 if ready else 503)


async def unready(urls: tuple[str, ...]) -> dict[str, str]:
    """Ask other processes whether they are ready, all at once, and return url → why not for those that are not."""
    reasons: dict[str, str] = {}

    async def ask(client: httpx.AsyncClient, url: str) -> None:
        try:
            answer = await client.get(url)
        except httpx.HTTPError as exc:
            reasons[url] = f"does not answer ({type(exc).__name__})"
        else:
            if answer.status_code != httpx.codes.OK:
                reasons[url] = answer.text[:500]

    # No proxy from the environment: they are neighbours.
    async with httpx.AsyncClient(timeout=_ASK_TIMEOUT_S, trust_env=False) as client, anyio.create_task_group() as tasks:
        for url in urls:
            tasks.start_soon(ask, client, url)
    return reasons
