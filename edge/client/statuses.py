"""What the client tells beside the messages: what becomes of its connections, and what the edge says of the messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Welcomed:
    """A session is open."""

    url: str
    user: str
    session: str
    node: str


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Every message of `to` up to `seq` has come; what follows is live."""

    to: str
    seq: int


@dataclass(frozen=True, slots=True)
class Lost:
    """Something is gone for good: what `to` was sent above `since` and up to `until` is retained no longer.

    The messages that are still there follow. Whoever shows a state made of messages fetches it anew.
    """

    to: str
    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A topic is heard, in this session: asked for, or given unasked by a back end or the token.

    `head` is where its order stood then. What was missed follows.
    """

    topic: str
    head: int


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """A topic is heard no longer, as was asked for, or as a back end has it."""

    topic: str


@dataclass(frozen=True, slots=True)
class Members:
    """Who has subscribed to a topic that is heard with `presence`; replaces what was known, whenever it comes."""

    topic: str
    users: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """A user has subscribed to it, with the first session of hers."""

    topic: str
    user: str


@dataclass(frozen=True, slots=True)
class Left:
    """A user hears of it no more, in any session."""

    topic: str
    user: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The edge did not carry something out, and says why: `error` in the protocol.

    `forbidden` and `too_many_topics` are of topics, which the text names. Such a topic is asked for again with each
    connection and each newer token, which may grant it; `unsubscribe` ends that. `bad_token` and `unavailable` are of a newer
    token: the connection ends with the one before it. With `too_many_members` the topic goes on, and
    nothing more is told of who hears it.
    """

    code: str
    why: str


@dataclass(frozen=True, slots=True)
class Parted:
    """A connection ended or could not be had; the next try comes after `retry_in_s`."""

    url: str
    why: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class NoToken:
    """The token source had none; it is asked again after `retry_in_s`. An open connection stays open until then."""

    why: str
    retry_in_s: float


@dataclass(frozen=True, slots=True)
class Noticed:
    """The edge sent another frame, such as `bye` or one that this version has not heard of."""

    frame: Mapping[str, Any]


Status = Welcomed | CaughtUp | Lost | Subscribed | Unsubscribed | Members | Joined | Left | Refused | Parted | NoToken | Noticed
