"""What is read of requests to auth: JSON of a shape, or a form of the same."""

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
_UNKNOWN: Final = "Object contains unknown field "


def decode(body: bytes, shape: type[BodyT]) -> BodyT:
    """Return a JSON body.

    Raises:
        RuleBroken: naming the part of it that is not as it is to be.
    """
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.ValidationError as exc:
        raise _broken_rule(str(exc), shape) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RuleBroken("body", "a JSON object is expected") from exc


def decode_revoke(request: Request, body: bytes) -> RevokeRequest:
    """Return the body of a revocation: a form, each field of it once, or else JSON.

    Raises:
        RuleBroken: naming the part of it that is not as it is to be.
        Problem: 415 when it is neither.
    """
    if not _is_form(request):
        return decode(body, RevokeRequest)
    fields = _fields(body)
    for name, values in fields.items():
        if len(values) > 1:
            raise RuleBroken(name[:64], "it is given more than once")
    if fields.get("all", ["true"]) != ["true"]:  # what else would be taken for a truth is none in JSON
        raise RuleBroken("all", "true is expected")
    try:
        return msgspec.convert({name: values[0] for name, values in fields.items()}, RevokeRequest, strict=False)
    except msgspec.ValidationError as exc:
        raise _broken_rule(str(exc), RevokeRequest) from exc


def form_token(request: Request, body: bytes) -> str | None:
    """Return the token in a form; None where the body is JSON.

    Raises:
        RuleBroken: when a form has none, or several.
        Problem: 415 when it is neither.
    """
    if not _is_form(request):
        return None
    found = _fields(body).get("token", [])
    if len(found) != 1 or not found[0]:
        raise RuleBroken("token", "a form with one token is expected: token=<the token>")
    return found[0]


def _is_form(request: Request) -> bool:
    """Tell whether a body is a form, and not JSON.

    Raises:
        Problem: 415 when it is neither.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
        return True
    check_json(request)
    return False


def _fields(body: bytes) -> dict[str, list[str]]:
    """Return the fields of a form; none of one that cannot be read."""
    try:
        return parse_qs(body.decode(), keep_blank_values=True, errors="strict")
    except ValueError:
        return {}


def _broken_rule(problem: str, shape: type[msgspec.Struct]) -> RuleBroken:
    found = _PATH.search(problem) or _MEMBER.search(problem)
    if problem.startswith(_UNKNOWN):
        rule = f"there is no such field (fields: {', '.join(sorted(shape.__struct_fields__))})"
    else:
        rule = _PATH.sub("", problem)
    return RuleBroken(found[1] if found else "body", rule)
