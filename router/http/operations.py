"""How an operation of an HTTP service is described: once, next to what answers it.

The routes (`app`) and the OpenAPI document (`openapi`) are both made of these descriptions, so that neither can have an
operation that the other has not. Nothing here knows Starlette or OpenAPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import msgspec

from router.api_keys.scopes import Scope
from router.targets import ID_MAX_CHARS, ID_RULE

JSON: Final = "application/json"

Type = Any
"""Whatever msgspec takes for a type: a Struct, `Annotated[str, Meta(…)]`, a union."""

# As router.targets has it, but for halves of surrogate pairs, which many dialects of regular expressions cannot name.
_ID_PATTERN: Final = r'^[^\s,{}"\\\x00-\x1f\x7f-\x9f]+$'

Id = Annotated[
    str,
    msgspec.Meta(
        description=f"An id: {ID_RULE}.",
        extra_json_schema={"minLength": 1, "maxLength": ID_MAX_CHARS, "pattern": _ID_PATTERN},
    ),
]
"""An id of a user, topic, device, node or message. For schemas only: msgspec takes any string for it, so that
`router.targets.check_id` can refuse with the field and the rule."""

Time = Annotated[str, msgspec.Meta(description="RFC 3339, in UTC.", extra_json_schema={"format": "date-time"})]
"""A moment in an answer."""


@dataclass(frozen=True, slots=True)
class AnyOf:
    """One of several types, where msgspec knows no union: of Structs that no member tells apart.

    Attributes:
        types: which.
    """

    types: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A part of the address or a header that an operation reads.

    Attributes:
        name: as it stands in the path's braces, in the query or as a header.
        where: which of these it is.
        type: what it may be.
        description: what it does, one sentence or two.
        example: one that works.
        required: always so in a path.
        slashes: the last part of a path takes the slashes behind it in, too.
    """

    name: str
    where: Literal["path", "query", "header"]
    type: Type
    description: str
    example: Any = None
    required: bool = False
    slashes: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries.

    Attributes:
        type: its shape.
        description: what it says.
        example: one that works.
        media_types: in which it may come; all of the same shape.
    """

    type: Type
    description: str
    example: Any = None
    media_types: tuple[str, ...] = (JSON,)


@dataclass(frozen=True, slots=True)
class Answer:
    """What comes back when all went well, or as well as it could.

    Attributes:
        status: the HTTP status.
        type: the shape of the JSON, or `AnyOf` several; None where there is no body.
        description: what this status says.
        example: such an answer.
        headers: name → what it says.
        media_type: where it is not plain JSON.
    """

    status: HTTPStatus
    type: Type
    description: str
    example: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = JSON


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """A method on a path.

    Attributes:
        id: its name in programs made from the document: a verb and a noun, as `get_message`.
        method: in capitals. GET answers HEAD as well.
        path: with each path parameter's name in braces.
        summary: a few words, as a heading.
        description: a paragraph (CommonMark).
        answers: what comes back, the usual one first.
        parameters: of path, query and headers. A query parameter that is not named here is refused.
        body: what the request carries.
        problems: status → when it comes. Those that any request may meet are not listed (see router.http.openapi).
        scope: what the API key must be good for; None asks for no key. To be named, so that none is open by oversight.
    """

    id: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    summary: str
    description: str
    answers: tuple[Answer, ...]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    problems: Mapping[HTTPStatus, str] = field(default_factory=dict)
    scope: Scope | None = field(kw_only=True)

    def named(self, where: str) -> frozenset[str]:
        """Return the names of its parameters of the path, the query or the headers."""
        return frozenset(parameter.name for parameter in self.parameters if parameter.where == where)
