"""Who may call an operation: whoever shows an API key with its scope, in `Authorization: Bearer`, and nowhere else.

No cookie is read, and no key in an address: so a browser adds nothing to a request that a foreign page has it make.
What is refused is said as RFC 6750, section 3, has it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

import structlog
from starlette.requests import Request

from router.api_keys.ring import Keyring
from router.api_keys.scopes import Scope
from router.http.problems import Problem

log = structlog.get_logger(__name__)

_REALM: Final = 'Bearer realm="pushway"'
_BEARER: Final = re.compile(rb"bearer +(\S+)", re.IGNORECASE)


def check_access(request: Request, keyring: Keyring, scope: Scope, operation: str) -> None:
    """Let a request pass that shows a key with the scope.

    Args:
        request: whose headers are looked at.
        keyring: the keys that are good.
        scope: what the operation asks for.
        operation: its id, for the log.

    Raises:
        Problem: 400 when it shows several; 401 when it shows none, one that is unknown, or one that has expired; 403 when that
            lacks the scope.
    """
    key = keyring.find(_shown(request))
    if key is None:
        raise _unauthorized("no such API key is known here", "the key is unknown")
    if key.is_expired(datetime.now(UTC)):
        log.debug("api_refused", caller=key.name, operation=operation, why="expired")
        raise _unauthorized("this API key has expired", "the key has expired")
    if scope not in key.scopes:
        log.debug("api_refused", caller=key.name, operation=operation, why=f"lacks the scope {scope}")
        raise _forbidden(scope)
    log.debug("api_called", caller=key.name, operation=operation)


def _shown(request: Request) -> bytes:
    # Header values come as Latin-1, whatever was sent: encoding them back gives the bytes on the wire.
    headers = [value.encode("latin-1") for value in request.headers.getlist("authorization")]
    if len(headers) > 1:
        raise Problem(
            HTTPStatus.BAD_REQUEST,
            "the header Authorization is given more than once",
            headers={"www-authenticate": f'{_REALM}, error="invalid_request"'},
        )
    bearer = _BEARER.fullmatch(headers[0]) if headers else None
    if bearer is None:
        # RFC 6750, section 3.1: who shows nothing is told of no error.
        raise _unauthorized("an API key belongs in the header Authorization: Bearer <api_key>")
    return bearer[1]


def _unauthorized(detail: str, error: str = "") -> Problem:
    said = f'{_REALM}, error="invalid_token", error_description="{error}"' if error else _REALM
    return Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"www-authenticate": said})


def _forbidden(scope: Scope) -> Problem:
    return Problem(
        HTTPStatus.FORBIDDEN,
        f"this API key has not the scope {scope!r}, which this operation asks for",
        headers={"www-authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope}"'},
    )
