"""What every answer tells a browser, so that no page of another origin can make anything of it.

Services over HTTP are for programs, and keys go in a header that no browser adds by itself; no cookie is read or set, and no
header of CORS is ever answered, so a page of elsewhere can neither send what needs a preflight nor read an answer. The headers
here close what is left: an answer is not run as a script or a style, not put into a frame, not kept, and tells no other site
where its reader came from. An answer may say otherwise for itself, as pages do.

Sources: the Fetch standard, "Cross-Origin-Resource-Policy"; CSP level 3; RFC 9111, section 5.2.2.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: Final[Mapping[str, str]] = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Those of every answer that does not say otherwise."""

_NO_POWERS: Final = ", ".join(
    f"{power}=()"
    for power in ("camera", "display-capture", "geolocation", "microphone", "payment", "usb", "serial", "hid", "midi")
)


_PAGES: Final = {
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
    "trusted-types": "'none'",
}


def page_headers(policy: dict[str, str]) -> dict[str, str]:
    """Return the headers of a page.

    Args:
        policy: what the page needs, by directive of CSP; anything else is nobody's.
    """
    # Trusted Types: that a text of a message becomes markup is a mistake which the browser then stops.
    directives = {"default-src": "'none'"} | policy | _PAGES
    return {
        "cache-control": "no-cache",
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in directives.items()),
        "cross-origin-opener-policy": "same-origin",
        "permissions-policy": _NO_POWERS,
    }


class BrowserSafe:
    """Adds the headers to an application's answers; outermost, so that it sees them all."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: D102 - ASGI's
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                _add(message)
            await send(message)

        await self._app(scope, receive, add)


def _add(message: Message) -> None:
    headers = MutableHeaders(scope=message)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
