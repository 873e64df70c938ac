"""What stands in an address: ids in its path, numbers in its query."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from starlette.requests import Request

from router.http.operations import Id, Parameter
from router.http.problems import Problem
from router.targets import check_id

SEQ_MAX: Final = 2**53 - 1
"""Largest seq that JSON readers keep exactly."""

Seq = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]

USER: Final = Parameter("user", "path", Id, "The user's id, percent-encoded.", example="alice")
TOPIC: Final = Parameter("topic", "path", Id, "The topic's name, percent-encoded.", example="news")

_NUMBER_MAX_DIGITS: Final = 16


def user_of(request: Request) -> str:
    """Return the user whom a request is about.

    Raises:
        RuleBroken: when that is no id.
    """
    return check_id(request.path_params["user"], "user")


def topic_of(request: Request) -> str:
    """Return the topic that a request is about.

    Raises:
        RuleBroken: when that is no id.
    """
    return check_id(request.path_params["topic"], "topic")


def read_number(request: Request, name: str, *, default: int, least: int, most: int) -> int:
    """Return a number of the query.

    Raises:
        Problem: 400 when it is no whole number within these bounds.
    """
    text = request.query_params.get(name)
    if text is None:
        return default
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= _NUMBER_MAX_DIGITS else -1
    if not least <= number <= most:
        raise Problem(
            HTTPStatus.BAD_REQUEST, f"{name} takes a whole number from {least} to {most}, not {text[:32]!r}", field=name
        )
    return number
