"""What is read of requests to auth: JSON of a shape, or a form with a token."""

from __future__ import annotations

import re
from typing import Final, TypeVar
from urllib.parse import parse_qs

import msgspec
from starlette.requests import Request

from router.auth.openapi import FORM, RevokeRequest, TokenRequest, VerifyRequest
from router.errors import RuleBroken
from router.http.media import check_json

BodyT = TypeVar("BodyT", TokenRequest, VerifyRequest, RevokeRequest)

# How msgspec names the part at fault: a path from the root, or a member's name in backticks.
_PATH: Final = re.compile(r" - at `\$\.([^`.\[]+)[^`]*`$")
_MEMBER: Final = re.compile(r"field `([^`]+)`")


def decode(body: bytes, shape: type[BodyT]) -> BodyT:
    """Return a JSON body.

    Raises:
        RuleBroken: naming the part of it that is not as it is to be.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as exc:
        raise _broken_rule(str(exc)) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RuleBroken("body", "a JSON object is expected") from exc


def form_token(request: Request, body: bytes) -> str | None:
    """Return the token in a form; None where the body is JSON.

    Raises:
        RuleBroken: when a form has none, or several.
        Problem: 415 when it is neither.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        check_json(request)
        return None
    try:
        found = parse_qs(body.decode(), errors="strict").get("token", [])
    except ValueError:
        found = []
    if len(found) != 1:
        raise RuleBroken("token", "a form with one token is expected: token=<the token>")
    return found[0]


def _broken_rule(problem: str) -> RuleBroken:
    found = _PATH.search(problem) or _MEMBER.search(problem)
    return RuleBroken(found[1] if found else "body", _PATH.sub("", problem))
