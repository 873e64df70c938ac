"""What a request comes as: plain JSON that says so."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request

from router.http.operations import JSON
from router.http.problems import Problem


def check_json(request: Request) -> None:
    """Let a request pass that says it carries JSON, as it is.

    Raises:
        Problem: 415 when it says something else, or is compressed.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"send JSON, and say so: content-type: {JSON}",
            headers={"accept": JSON},
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send it as it is, not compressed", headers={"accept-encoding": "identity"}
        )
