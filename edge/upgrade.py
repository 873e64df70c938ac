"""What a request to upgrade says of the client. Pure; who reads its bytes is `edge.handshake`, and `edge.usual_request`.

Knows nothing of sessions: what these facts mean is theirs to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qsl

from websockets.typing import Subprotocol

from router.auth.bearer import Bearer

PATH: Final = "/v1/connect"
SUBPROTOCOL: Final = Subprotocol("pushway.v1")

_BEARER: Final = "bearer"


class Fields(Protocol):
    """The headers of a request."""

    def get_all(self, key: str) -> list[str]:
        """Return what those of a name say, in their order; upper and lower case are one."""


class Asked(Protocol):
    """A request, whoever has read it."""

    @property
    def path(self) -> str:
        """Path and query, or the whole address, as it was sent."""

    @property
    def headers(self) -> Fields:
        """Its headers."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What a client said of itself in the request.

    Attributes:
        token: the bearer token; None where there is no Authorization header, "" where it holds no such token.
        query: the parameters of the address; of a repeated one the last.
        subprotocols: what it offers, in its order.
        origin: of the page that connects; None where it is no page.
        host: by which name and port the client reached the edge; "" where it does not say.
    """

    token: str | None
    query: Mapping[str, str]
    subprotocols: tuple[str, ...]
    origin: str | None = None
    host: str = ""


def read_upgrade(request: Asked, offered: tuple[str, ...]) -> Upgrade:
    """Return the facts of a request that was answered with 101."""
    headers = request.headers
    return Upgrade(
        _bearer(headers.get_all("Authorization")),
        _query(request),
        offered,
        only(headers, "Origin"),
        only(headers, "Host") or "",
    )


def read_bearer(request: Asked, address: str, wanted: Sequence[str]) -> Bearer:
    """Return what a judge of tokens is told of a request: headers named `wanted`, those that come more than once as one."""
    values = {name.lower(): request.headers.get_all(name) for name in wanted}
    return Bearer(address, {name: ", ".join(said) for name, said in values.items() if said}, _query(request))


def _query(request: Asked) -> dict[str, str]:
    """Return the parameters of the address; what is no UTF-8 comes as lone surrogates, which no id may hold."""
    query = request.path.partition("?")[2]
    return dict(parse_qsl(query, keep_blank_values=True, errors="surrogateescape")) if query else {}


def only(headers: Fields, name: str) -> str | None:
    """Return a header; "" where it comes more than once, which no browser sends."""
    values = headers.get_all(name)
    return None if not values else values[0] if len(values) == 1 else ""


def _bearer(values: Sequence[str]) -> str | None:
    if not values:
        return None
    scheme, _, token = values[0].partition(" ")
    return token.strip() if len(values) == 1 and scheme.lower() == _BEARER else ""
