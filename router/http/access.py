"""The API key that back ends show: one for all of HTTP, in `Authorization: Bearer`."""

from __future__ import annotations

import hmac
from http import HTTPStatus

from starlette.requests import Request

from router.http.problems import Problem


def check_api_key(request: Request, api_key: str) -> None:
    """Let a request pass that shows the key.

    Raises:
        Problem: 401 when it shows another or none, or when this service has none: nobody can show that.
    """
    # Header values come as Latin-1, whatever was sent: encoding them back gives the bytes on the wire.
    shown = request.headers.get("authorization", "").encode("latin-1")
    if not api_key or not hmac.compare_digest(shown, f"Bearer {api_key}".encode()):
        raise Problem(
            HTTPStatus.UNAUTHORIZED,
            "the API key of this service belongs in the header Authorization: Bearer <api_key>",
            headers={"www-authenticate": "Bearer"},
        )
