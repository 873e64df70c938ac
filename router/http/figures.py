"""Counting an application's answers by route, without anything in the routes themselves.

The address is no label, for it holds ids: the route's template is. Which route it was is known only where the router has found
it, and the answer only outside of whatever refuses requests before that; so there is one middleware at each end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from time import perf_counter
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from router.metrics import HTTP_REQUESTS, HTTP_SECONDS

OTHER: Final = "other"
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

_FOUND: Final = "pushway.found"
"""Key in the scope, of a dict that all copies of the scope share."""

_CONVERTOR: Final = re.compile(r":\w+}")


def count_requests(app: Starlette) -> Starlette:
    """Have every answer of an application counted and timed; return it. Not once it has served."""
    app.user_middleware.insert(0, Middleware(_Answers, templates=_templates(app.routes)))
    app.user_middleware.append(Middleware(_Routes))
    return app


def _templates(routes: Iterable[BaseRoute]) -> dict[object, str]:
    """Return endpoint → template of its address; where one endpoint answers several, as the files of a page, of the first."""
    templates: dict[object, str] = {}
    for route in routes:
        if isinstance(route, Route):
            templates.setdefault(route.endpoint, _CONVERTOR.sub("}", route.path))
    return templates


class _Routes:
    """Next to the router: notes which endpoint it found."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            scope.get(_FOUND, {})["endpoint"] = scope.get("endpoint")


class _Answers:
    """Around everything: counts what was answered, and what raised instead as 500."""

    def __init__(self, app: ASGIApp, templates: dict[object, str]) -> None:
        self._app = app
        self._templates = templates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        found: dict[str, object] = {}

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        began_s = perf_counter()
        try:
            await self._app({**scope, _FOUND: found}, receive, note)
        finally:
            method = scope["method"] if scope["method"] in METHODS else OTHER
            route = self._templates.get(found.get("endpoint"), OTHER)
            HTTP_REQUESTS.labels(method, route, status).inc()
            HTTP_SECONDS.labels(method, route).observe(perf_counter() - began_s)
