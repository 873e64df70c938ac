"""What the API says of itself: its title, and what several of its operations share.

To add an operation:
1. in the module that answers it, describe it beside the Structs that it takes and gives, as messages.py does with `GET_MESSAGE`
   (router.http.operations says what each part means; the problems that any request may meet are added by themselves);
2. in app.py, put one line into `handlers`: `GET_USER: users.get`.
That makes the route, its key check, its query check (what is not described is refused), and its part of /v1/openapi.json. A
handler finds decoded path parameters in `request.path_params[<name in braces>]`, and raises `Problem` or `RuleBroken`. Errors
of Redis and MongoDB pass through it: app.py turns them into 503, to be described with `problems=AWAY`.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from router import __version__

ABOUT: Final = (
    "Pushway API",
    __version__,
    "Sends messages to people's open connections, and tells what became of them. Errors are problem documents (RFC 9457).",
)

AWAY: Final = {HTTPStatus.SERVICE_UNAVAILABLE: "MongoDB or Redis cannot be asked; `Retry-After` says when to try again."}
"""A problem of every operation that asks one of them."""
