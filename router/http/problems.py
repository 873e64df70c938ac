"""What an HTTP service answers when it cannot do what was asked: RFC 9457 problem documents, for every error.

`type` is always about:blank, so `title` is the status' own phrase and `detail` says what is the matter (section 4.2.1).
Where a rule was broken, `field` and `rule` name it for programs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Annotated, Final, Literal

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from router.errors import RuleBroken

MEDIA_TYPE = "application/problem+json"


class ProblemDocument(msgspec.Struct, frozen=True):
    """What was wrong with a request (RFC 9457)."""

    type: Literal["about:blank"]
    title: Annotated[str, msgspec.Meta(description="The status in words.")]
    status: Annotated[int, msgspec.Meta(ge=400, le=599)]
    detail: Annotated[str, msgspec.Meta(description="What was wrong and what is expected, for people.")]
    field: Annotated[str, msgspec.Meta(description="The part of the request at fault.")] | msgspec.UnsetType = msgspec.UNSET
    rule: Annotated[str, msgspec.Meta(description="The rule that it breaks.")] | msgspec.UnsetType = msgspec.UNSET


_USUAL_DETAILS: Final = {
    HTTPStatus.NOT_FOUND: "there is nothing at this address; /v1/openapi.json tells what there is",
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not answer that method; the header Allow tells which it answers",
}
"""What to say where Starlette itself refuses."""


class Problem(HTTPException):
    """A request is refused.

    Args:
        status: the HTTP status.
        detail: what was wrong and what is expected, for people.
        field: the part of the request at fault, where there is one.
        headers: headers that the status asks for.
    """

    def __init__(
        self, status: HTTPStatus, detail: str, *, field: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, headers)
        self.field = field


def problem_handlers() -> Mapping[int | type[Exception], ExceptionHandler]:
    """Return Starlette's exception handlers that turn every error into a problem document."""
    return {HTTPException: _refused, RuleBroken: _rule_broken, ClientDisconnect: _left, Exception: _failed}


async def read_body(request: Request, max_bytes: int, note: Callable[[int], None] | None = None) -> bytes:
    """Return the request's body, read no further than it may be long.

    Args:
        request: whose.
        max_bytes: how long it may be.
        note: called with the bytes of each part of it, and may raise.

    Raises:
        Problem: 413 when it is longer.
    """
    body = bytearray()
    async for chunk in request.stream():
        if note is not None:
            note(len(chunk))
        body += chunk
        if len(body) > max_bytes:
            raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is longer than {max_bytes} bytes")
    return bytes(body)


def document_of(problem: HTTPException | RuleBroken) -> ProblemDocument:
    """Return the document that says what was wrong; also for one item of many, within an answer that is none itself."""
    if isinstance(problem, RuleBroken):
        return _document(HTTPStatus.BAD_REQUEST, str(problem), field=problem.field, rule=problem.rule)
    status = HTTPStatus(problem.status_code)
    detail = _USUAL_DETAILS.get(status, problem.detail) if problem.detail == status.phrase else problem.detail
    return _document(status, detail, field=problem.field if isinstance(problem, Problem) else None)


def problem_response(problem: HTTPException) -> Response:
    """Return the answer to a request that is refused."""
    return _response(document_of(problem), problem.headers)


async def _refused(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)  # noqa: S101 - Starlette's signature is wider than what it calls this with
    return problem_response(exc)


async def _rule_broken(_request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RuleBroken)  # noqa: S101 - likewise
    return _response(document_of(exc))


async def _left(_request: Request, _exc: Exception) -> Response:
    """Answer nobody: the client has gone while its request was read. Unhandled, it would be logged as an error of ours."""
    return _response(_document(HTTPStatus.BAD_REQUEST, "the request ended before its body did"))


async def _failed(_request: Request, _exc: Exception) -> Response:
    """Answer without details: Starlette raises the error on, and it is logged with its traceback."""
    return _response(_document(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here; the log of this service tells"))


def _document(status: HTTPStatus, detail: str, *, field: str | None = None, rule: str | None = None) -> ProblemDocument:
    return ProblemDocument("about:blank", status.phrase, status, detail, field or msgspec.UNSET, rule or msgspec.UNSET)


def _response(document: ProblemDocument, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(document), document.status, headers=headers, media_type=MEDIA_TYPE)
