"""The page at the API's root, for development: two users side by side, live, and what it takes to send them something.

Served only where the setting `api_page` says so, as under `up`: whoever reaches it gets a token for anybody and may append. So
it answers only under a name of this machine's own, and only JSON that a page of another origin cannot send unasked: a site
that a developer happens to visit must not reach it through the browser, be it by a name of its own that leads here (DNS
rebinding) or by a form.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from http import HTTPStatus
from importlib.resources import files
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from router.api.append.post import Append
from router.auth.client import RequestRefused, request_token
from router.http.media import check_json
from router.http.problems import Problem, read_body
from router.http.safety import page_headers
from router.keys import Keys
from router.redis_url import read_url
from router.settings import Settings
from router.targets import check_id

T = TypeVar("T")

_LOCAL: Final = frozenset({"127.0.0.1", "localhost", "::1"})

_REQUEST_MAX_BYTES: Final = 4_096
"""Longest request for a token."""

_MODULES: Final = ("api", "log", "page", "pane", "shell", "ways")

# The client belongs to the edge, and is read as a file: router imports nothing of edge.
_FILES: Final = {
    "/": ("router", "api/page/index.html", "text/html"),
    **{f"/page/{name}.js": ("router", f"api/page/{name}.js", "text/javascript") for name in _MODULES},
    "/page/page.css": ("router", "api/page/page.css", "text/css"),
    "/page/pushway.js": ("edge", "js/pushway.js", "text/javascript"),
}

_OWN_SITES: Final = frozenset({"same-origin", "none"})
"""Values of Sec-Fetch-Site with which nobody else's page asks. Who is no browser sends none."""

_SOURCE: Final = re.compile(r"(wss?://[A-Za-z0-9.-]+(?::[0-9]+)?)(?:[/?#]|$)")
"""An edge as CSP can name it: it knows no addresses of IPv6."""


class _TokenWish(msgspec.Struct, forbid_unknown_fields=True):
    user: str


class Page:
    """The page and what it asks for.

    Args:
        append: what takes messages.
        settings: where edges, auth and Redis are.
    """

    def __init__(self, append: Append, settings: Settings) -> None:
        self._append = append
        self._settings = settings
        self._headers = page_headers(
            {
                "script-src": "'self'",
                "style-src": "'self'",
                "connect-src": " ".join(["'self'", *edge_sources(settings.edge_urls)]),
                "img-src": "data:",
            }
        )

    @property
    def routes(self) -> list[Route]:
        """All its addresses."""
        return [
            *(Route(path, self._file, methods=["GET"]) for path in _FILES),
            Route("/page/places", self._places, methods=["GET"]),
            Route("/page/token", self._token, methods=["POST"]),
            Route("/page/send", self._send, methods=["POST"]),
        ]

    async def _file(self, request: Request) -> Response:
        self._check_host(request)
        package, path, media_type = _FILES[request.url.path]
        return Response(files(package).joinpath(path).read_bytes(), media_type=media_type, headers=self._headers)

    async def _places(self, request: Request) -> Response:
        self._check_site(request)
        intake = Keys(self._settings.prefix, 0).intake()
        redis_cli = redis_command(self._settings.redis_url, self._settings.redis_ca_file)
        return JSONResponse({"edges": list(self._settings.edge_urls), "intake": intake, "redis_cli": redis_cli})

    async def _token(self, request: Request) -> Response:
        wish = await self._read(request, _TokenWish)
        try:
            issued = await request_token(self._settings, check_id(wish.user, "user"))
        except (ConnectionError, RequestRefused) as exc:
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(exc)) from exc
        return JSONResponse({"token": issued.token})

    async def _send(self, request: Request) -> Response:
        """Append a message as POST /v1/messages does."""
        self._check_site(request)
        return await self._append.post(request)

    async def _read(self, request: Request, kind: type[T]) -> T:
        self._check_site(request)
        check_json(request)
        raw = await read_body(request, _REQUEST_MAX_BYTES)
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise Problem(HTTPStatus.BAD_REQUEST, str(exc)) from exc

    def _check_site(self, request: Request) -> None:
        """Refuse what a page of another origin has a browser send, though it could not read the answer."""
        self._check_host(request)
        if request.headers.get("sec-fetch-site", "none") not in _OWN_SITES:
            raise Problem(HTTPStatus.FORBIDDEN, "this is for the page itself, and a page of another origin asks")

    def _check_host(self, request: Request) -> None:
        if _host(request) not in _LOCAL | {self._settings.api_host}:
            raise Problem(HTTPStatus.FORBIDDEN, "the page is for this machine: open it as http://127.0.0.1 or localhost")


def _host(request: Request) -> str | None:
    """Return under which name the page was asked for; None of what is none."""
    try:
        return urlsplit(f"//{request.headers.get('host', '')}").hostname
    except ValueError:  # of a bracket without its other
        return None


def edge_sources(urls: Iterable[str]) -> list[str]:
    """Return the origins of edges for a content security policy, each once; where it cannot name one, any of that scheme."""
    return sorted({_source(url) for url in urls})


def _source(url: str) -> str:
    known = _SOURCE.match(url)
    return known[1] if known else "wss:" if url.startswith("wss:") else "ws:"


def redis_command(url: str, ca_file: str = "") -> str:
    """Return how redis-cli is called for a Redis; what a password belongs into is left for people to fill in."""
    told = read_url(url)
    if told.cluster:
        return f"{redis_command(told.driver_url)} -c"
    if told.sentinel:
        return "redis-cli -h PRIMARY"
    parts = urlsplit(url)
    if parts.scheme == "redis" and "@" not in parts.netloc:
        host = [] if parts.hostname in _LOCAL else ["-h", parts.hostname or ""]
        return shlex.join(["redis-cli", *host, "-p", str(parts.port or 6379)])
    trust = ["--cacert", ca_file] if ca_file else []
    return shlex.join(["redis-cli", "-u", f"{parts.scheme}://…@{parts.netloc.rpartition('@')[2]}", *trust])
