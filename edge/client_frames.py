"""What a client may ask for, by frame or in the address: decoded, checked, turned into types.

Strict on purpose: a field with a typing error in its name would otherwise be a wish silently not granted. It is also the
whole of what a client can make the edge believe, so nothing behind this module checks a shape again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from router.errors import PushwayError, RuleBroken
from router.targets import ALL, TOPIC_PREFIX, check_id

OWN: Final = "user"
"""How `since` names the client's own target."""

SEQ_MAX: Final = 2**53 - 1
"""The highest integer that JavaScript tells from its neighbours. Seqs are microseconds, so they reach it in 2255."""

_SEQ_MAX_DIGITS: Final = len(str(SEQ_MAX))

Seq = Annotated[int, msgspec.Meta(ge=0, le=SEQ_MAX)]


SHOWN_CHARS: Final = 200
"""Most of what a client sent that it is shown again."""


class BadFrame(PushwayError):
    """A client sent what the protocol does not allow; the text says what, and is shown to the client."""


class Connect(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="connect"):
    """The first frame of a client that cannot set headers, such as a browser."""

    token: str
    device: str | None = None
    since: dict[str, Seq] | None = None
    topics: list[str] | None = None


class Ack(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ack"):
    """Everything up to `seq` of target `to` (default: the user's own) has been taken in."""

    seq: Seq
    to: str | None = None


class Subscribe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="subscribe"):
    """Send the messages of a topic too; with `presence`, also who else is there, until it is unsubscribed."""

    topic: str
    since: Seq | None = None
    presence: bool = False


class Unsubscribe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="unsubscribe"):
    """Send the messages of a topic no longer."""

    topic: str


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="token"):
    """A newer token, before the first one expires."""

    token: str


class Ping(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="ping"):
    """Answered with `pong`."""


ClientFrame = Connect | Ack | Subscribe | Unsubscribe | Token | Ping


@dataclass(frozen=True, slots=True)
class Options:
    """What a client wishes at the start.

    Attributes:
        device: names the cursors kept on the server; None is a session without any.
        since: `user`, `all` or `topic:<name>` → the last seq the client has.
        topics: names to subscribe to.
        watched: those of them to be told the members of; asked for by frames that came before the welcome.
        left: topics that are not to be given; likewise.
    """

    device: str | None = None
    since: Mapping[str, int] = field(default_factory=dict)
    topics: tuple[str, ...] = ()
    watched: frozenset[str] = frozenset()
    left: tuple[str, ...] = ()


NO_OPTIONS: Final = Options()
"""For the many who wish nothing: one object."""


def checked_topic(frame: Subscribe | Unsubscribe) -> str:
    """Return the topic in a frame.

    Raises:
        BadFrame: when it breaks the rule for ids.
    """
    try:
        return check_id(frame.topic, "topic")
    except RuleBroken as exc:
        raise BadFrame(str(exc)) from None


_decoder: Final[msgspec.json.Decoder[ClientFrame]] = msgspec.json.Decoder(ClientFrame)


def decode(data: bytes) -> ClientFrame:
    """Return the frame in a text message.

    Raises:
        BadFrame: when it is not JSON, not a known type, or not of that type's shape.
    """
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:  # the last: nested a thousand deep
        # It names what it does not know, which may be all of a frame.
        raise BadFrame(str(exc)[:SHOWN_CHARS]) from None


def frame_options(frame: Connect) -> Options:
    """Return the options in a connect frame.

    Raises:
        BadFrame: when an id or target in it breaks the rules.
    """
    return _checked(frame.device, frame.since or {}, tuple(frame.topics or ()))


def query_options(query: Mapping[str, str]) -> Options:
    """Return the options in the address: `device=phone`, `since=N` or `since=N,all:M,topic:news:K`, `topics=news,sport`.

    Raises:
        BadFrame: when one of them cannot be read, or an id or target in it breaks the rules.
    """
    if not query:
        return NO_OPTIONS
    since = dict(_read_since(part) for part in query["since"].split(",")) if "since" in query else {}
    topics = tuple(query["topics"].split(",")) if "topics" in query else ()
    return _checked(query.get("device"), since, topics)


def _read_since(part: str) -> tuple[str, int]:
    name, colon, digits = part.rpartition(":")
    # Longer, and int() may refuse: Python bounds the time that a conversion takes.
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _SEQ_MAX_DIGITS and int(digits) <= SEQ_MAX):
        raise BadFrame(f"since: {part[:SHOWN_CHARS]!r} is not a seq, all:<seq> or topic:<name>:<seq>")
    return name if colon else OWN, int(digits)


def _checked(device: str | None, since: Mapping[str, int], topics: tuple[str, ...]) -> Options:
    try:
        if device is not None:
            check_id(device, "device")
        for name in topics:
            check_id(name, "topics")
        for name in since:
            _check_since(name)
    except RuleBroken as exc:
        raise BadFrame(str(exc)) from None
    return Options(device, since, topics)


def _check_since(name: str) -> None:
    if name in {OWN, ALL}:
        return
    if not name.startswith(TOPIC_PREFIX):
        raise BadFrame(f"since: {name[:SHOWN_CHARS]!r} is not {OWN}, {ALL} or {TOPIC_PREFIX}<name>")
    check_id(name.removeprefix(TOPIC_PREFIX), "since")
