"""router.api.health: the health of the whole, asked over real HTTP."""

from __future__ import annotations

import anyio
import pytest
from starlette.applications import Starlette

from router.api.health import unready
from router.http.server import serve_http
from router.ops import Health, ops_app
from router.settings import Settings
from router.tls.trust import http_trust
from tests.servers import free_ports

pytestmark = pytest.mark.anyio


async def test_neighbours_are_asked_without_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that is set for other things does not make the whole unready; a neighbour that is away or unready does."""
    away, here, young, unfit, other = (free_ports() for _ in range(5))
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{away}")
    fit, sick, stop = Health(), Health(), anyio.Event()
    sick.set("redis", ok=False, why="it is away")
    sick.set("leases", ok=False)
    fit.set("redis", ok=True)
    url = "http://127.0.0.1:{}/readyz".format
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tg:
            await tg.start(serve_http, ops_app(fit), "127.0.0.1", here, stop)
            await tg.start(serve_http, ops_app(Health()), "127.0.0.1", young, stop)
            await tg.start(serve_http, ops_app(sick), "127.0.0.1", unfit, stop)
            await tg.start(serve_http, Starlette(), "127.0.0.1", other, stop)
            reasons = await unready(tuple(map(url, (here, young, unfit, other, away))), http_trust(Settings()))
            stop.set()
    assert reasons == {
        url(young): "it is still starting",
        url(unfit): "redis: it is away; leases: not met",
        url(other): "Not Found",
        url(away): "does not answer (ConnectError)",
    }
