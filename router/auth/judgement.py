"""What is asked of a service about a token, and what its answer means. Pure.

    {"token": …, "address": "203.0.113.7", "headers": {"user-agent": …}, "query": {"device": "phone"}}
    200  {"user": "alice", "expires_at": 1795362661, "topics": ["news"], "subscribe": []}    let in
    200  {"active": true, "sub": "alice", "exp": 1795362661, …}                             let in (RFC 7662)
    200  {"active": false}    401    403                                                    refused, for good
    anything else                                                                           no judgement: come again

A 401 that challenges (`WWW-Authenticate`, RFC 9110 section 11.6.1) asks who the *edge* is, and so says nothing of the token: a
wrong secret must not send everybody away for good.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus
from typing import Final

import msgspec

from router.auth.bearer import Bearer
from router.auth.foreign import expiry
from router.auth.outward import Answer
from router.auth.tokens import Claims, checked_user, topic_names
from router.errors import TokenRefused

_NOT_TOLD: Final = frozenset({"token", "access_token"})
_NOT_ASKED: Final = frozenset({"since"})
"""Parameters that are new at every connect, and say nothing of who connects."""

_REASON_MAX_CHARS: Final = 100
_REFUSED: Final = "the token is not accepted"


class Unclear(ValueError):
    """An answer that is no judgement; the text says why."""


class _Said(msgspec.Struct):
    """An answer, in our words or in RFC 7662's."""

    user: str | None = None
    expires_at: float | int | None = None
    topics: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    active: bool | None = None
    sub: str | None = None
    exp: float | int | None = None


class _Refusal(msgspec.Struct):
    reason: str = ""


def question(token: str, bearer: Bearer) -> bytes:
    """Return what the service is sent."""
    query = {name: value for name, value in bearer.query.items() if name not in _NOT_TOLD}
    return msgspec.json.encode({"token": token, "address": bearer.address, "headers": bearer.headers, "query": query})


def digest(token: str, bearer: Bearer) -> bytes:
    """Return what the answer to a question is remembered under: all that the service may judge by."""
    query = {name: value for name, value in bearer.query.items() if name not in _NOT_ASKED}
    return sha256(msgspec.json.encode([token, bearer.address, bearer.headers, query], order="deterministic")).digest()


def read(answer: Answer, topics_max: int, asked_at: int = 0) -> Claims | TokenRefused:
    """Return the service's judgement.

    Args:
        answer: as it came.
        topics_max: most patterns and topics that are taken.
        asked_at: when the service was asked, Unix seconds: what counts as the time of issue.

    Raises:
        Unclear: when it is none.
    """
    if answer.status == HTTPStatus.OK:
        return _read_good(answer.body, topics_max, asked_at)
    if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        if "www-authenticate" in answer.headers:
            raise Unclear(f"HTTP status {answer.status} with a challenge: is auth_callback_secret the right one?")
        return TokenRefused(_reason(answer.body))
    raise Unclear(f"HTTP status {answer.status}")


def _read_good(body: bytes, topics_max: int, asked_at: int) -> Claims | TokenRefused:
    try:
        said = msgspec.json.decode(body, type=_Said)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise Unclear(f"the answer cannot be read: {exc}") from exc
    if said.active is False:
        return TokenRefused(_REFUSED)
    user, end = (said.sub, said.exp) if said.active else (said.user, said.expires_at)
    if user is None or end is None:
        raise Unclear("the answer does not say user and expires_at")
    if len(said.topics) + len(said.subscribe) > topics_max:
        raise Unclear(f"the answer has more than {topics_max} topics (token_topics_max)")
    try:
        return Claims(checked_user(user), expiry(end), said.topics, "", topic_names(said.subscribe), asked_at)
    except TokenRefused as exc:
        return exc


def _reason(body: bytes) -> str:
    try:
        said = msgspec.json.decode(body, type=_Refusal).reason
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _REFUSED
    return "".join(letter for letter in said if letter.isprintable())[:_REASON_MAX_CHARS] or _REFUSED


def bearer_size(bearer: Bearer) -> int:
    """Return how many characters the headers and parameters have."""
    return _size(bearer.headers) + _size(bearer.query)


def _size(texts: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in texts.items())
