"""What all HTTP services share: routes made of described operations, the API key, addresses that mean one thing only.

An address is split at its slashes before it is decoded, so that an id may hold a slash as `%2F`. What cannot be read, or asks
for something that does not exist, is refused rather than guessed at. Every refusal is a problem document.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from router.api_keys.ring import Keyring
from router.http.access import check_access
from router.http.figures import count_requests
from router.http.openapi import Limits, make_document
from router.http.operations import JSON, Answer, Operation
from router.http.problems import Problem, problem_handlers, problem_response
from router.http.reference import reference_routes

Handler = Callable[[Request], Awaitable[Response]]

ADDRESS_MAX_BYTES: Final = 8_192
"""Longest path and query: RFC 9110 section 4.1 asks for 8,000 at least, and nothing here needs more."""

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")

OPENAPI: Final = Operation(
    id="get_openapi",
    method="GET",
    path="/v1/openapi.json",
    summary="This document",
    description="The description of this service (OpenAPI 3.1), as programs read it.",
    answers=(Answer(HTTPStatus.OK, dict[str, Any], "The document."),),
    scope=None,
)


def http_app(
    about: tuple[str, str, str],
    handlers: Mapping[Operation, Handler],
    *,
    keyring: Keyring,
    others: Iterable[BaseRoute] = (),
    limits: Limits | None = None,
) -> Starlette:
    """Return the application that answers some operations, and tells of them at /v1/openapi.json and, to people, at /v1/docs.

    Args:
        about: title, version and description of the service.
        handlers: what answers each operation. It finds the decoded path parameters in `request.path_params`.
        keyring: the API keys that requests may show, where the operation asks for one.
        others: routes that are not described.
        limits: those of the settings in force, for the document.
    """
    described = (*handlers, OPENAPI)
    document = msgspec.json.encode(make_document(*about, described, limits))

    async def get_openapi(_request: Request) -> Response:
        return Response(document, media_type=JSON)

    app = Starlette(
        routes=[*_routes({**handlers, OPENAPI: get_openapi}, keyring), *reference_routes(), *others],
        exception_handlers=problem_handlers(),
        middleware=[Middleware(_StrictAddress)],
    )
    # A path with a slash too many is another path, and not there.
    app.router.redirect_slashes = False
    return count_requests(app)


def _routes(handlers: Mapping[Operation, Handler], keyring: Keyring) -> list[Route]:
    """Return one route a path, so that a wrong method is told all that are right."""
    by_path: dict[str, dict[str, Handler]] = {}
    for operation, handler in handlers.items():
        by_path.setdefault(_path(operation), {})[operation.method] = _guarded(operation, handler, keyring)
    return [_route(path, methods) for path, methods in by_path.items()]


def _path(operation: Operation) -> str:
    path = operation.path
    for parameter in operation.parameters:
        if parameter.slashes:
            path = path.replace(f"{{{parameter.name}}}", f"{{{parameter.name}:path}}")
    return path


def _route(path: str, methods: Mapping[str, Handler]) -> Route:
    async def answer(request: Request) -> Response:
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, answer, methods=list(methods))


def _guarded(operation: Operation, handler: Handler, keyring: Keyring) -> Handler:
    known = operation.named("query")

    async def answer(request: Request) -> Response:
        if operation.scope is not None:
            check_access(request, keyring, operation.scope, operation.id)
        _check_query(request, known)
        request.scope["path_params"] = {name: unquote(value) for name, value in request.path_params.items()}
        return await handler(request)

    return answer


def _check_query(request: Request, known: frozenset[str]) -> None:
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            takes = f"takes {', '.join(sorted(known))}" if known else "takes none"
            raise Problem(HTTPStatus.BAD_REQUEST, f"no query parameter {name[:64]!r}: this address {takes}", field=name[:64])
        if names.count(name) > 1:
            raise Problem(HTTPStatus.BAD_REQUEST, f"the query parameter {name!r} is given more than once", field=name)


class _StrictAddress:
    """Refuses addresses that cannot be read; hands on those that can with each part of the path quoted in one way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http":
            try:
                scope = {**scope, "path": _read_address(scope)}
            except Problem as problem:
                app = problem_response(problem)
        await app(scope, receive, send)


def _read_address(scope: Scope) -> str:
    """Return the path with its parts quoted as `quote` does.

    Raises:
        Problem: 414 or 400.
    """
    path, query = scope["raw_path"], scope["query_string"]
    if len(path) + len(query) > ADDRESS_MAX_BYTES:
        raise Problem(HTTPStatus.REQUEST_URI_TOO_LONG, f"the address is longer than {ADDRESS_MAX_BYTES} bytes")
    _decode(query.decode("latin-1"))
    return "/".join(quote(_decode(part), safe="") for part in path.decode("latin-1").split("/"))


def _decode(part: str) -> str:
    if _BAD_ESCAPE.search(part):
        raise Problem(HTTPStatus.BAD_REQUEST, "the address has a % that is not followed by two hexadecimal digits")
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError as exc:
        raise Problem(HTTPStatus.BAD_REQUEST, "the address is not UTF-8 once its percent-encoding is undone") from exc
