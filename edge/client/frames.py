"""The frames of `pushway.v1` as a client sees them: what it sends, and what it makes of what comes.

Lenient where a newer edge may know more (unknown frames and fields pass), strict where a wrong value would do harm later: a
seq that is none would be kept as a cursor, and sent back. Pure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard
from urllib.parse import urlencode

from edge.client.statuses import Joined, Left, Members

SEQ_MAX: Final = 2**53 - 1
"""The highest integer that JavaScript tells from its neighbours; an edge takes no higher one."""

OWN: Final = "user"
"""How `since` names the user's own target."""
ALL: Final = "all"
USER_PREFIX: Final = "user:"
TOPIC_PREFIX: Final = "topic:"

ADDRESS_MAX_CHARS: Final = 4_096
"""Longest address to say all wishes in. Servers and proxies give up at 8,192 bytes of a request's line, or somewhat before."""

_FLOAT_MAX: Final = sys.float_info.max

_HEARTBEAT_S: Final = 25.0
"""Where a welcome tells none that can be used: the edge's own default."""
_HEARTBEAT_MIN_S: Final = 0.05
_HEARTBEAT_MAX_S: Final = 600.0
_RETRY_AFTER_MAX_MS: Final = 600_000
"""No edge asks for more than some seconds; a wrong figure shall not silence a client for a year."""


class Unintelligible(Exception):
    """The other side does not speak the protocol."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it came.

    Attributes:
        to: the target it was sent to: `user:<id>`, `topic:<name>` or `all`.
        id: the producer's, or one made by the cluster.
        ts_ms: when it was appended, Unix ms.
        seq: its place in the target's order; None when transient.
        body: the JSON value, decoded; None for a text.
        text: the text; None for a body.
        frame: the frame as it came.
    """

    to: str
    id: str
    ts_ms: int
    seq: int | None
    body: Any
    text: str | None
    frame: str


@dataclass(frozen=True, slots=True)
class Welcome:
    """The session is open.

    Attributes:
        head: where the user's own order stands.
        all_head: where that of `all` stands; None where an older edge does not say.
        heartbeat_s: usable whatever the edge said.
    """

    user: str
    session: str
    node: str
    head: int
    all_head: int | None
    heartbeat_s: float


def decode(raw: str | bytes) -> tuple[dict[str, Any], str]:
    """Return the object in a frame, and the frame itself.

    Raises:
        Unintelligible: when it is binary, not JSON, or not an object.
    """
    if isinstance(raw, bytes):
        raise Unintelligible("the edge sent a binary frame")
    try:
        frame = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise Unintelligible("the edge sent something that is not JSON") from exc
    if not isinstance(frame, dict):
        raise Unintelligible("the edge sent JSON that is not an object")
    return frame, raw


def read_message(frame: Mapping[str, Any], raw: str) -> Message:
    """Return the message in a frame of type `message`.

    Raises:
        Unintelligible: when to, id, ts, seq or text are not what they have to be.
    """
    match frame:
        case {"to": str(to), "id": str(ident), "ts": int(ts_ms)} if _is_target(to) and _fits(frame):
            return Message(to, ident, ts_ms, frame.get("seq"), frame.get("body"), frame.get("text"), raw)
    raise Unintelligible("the edge sent a message whose to, id, ts, seq or text is none")


def read_welcome(frame: Mapping[str, Any]) -> Welcome:
    """Return what a frame of type `welcome` says.

    Raises:
        Unintelligible: when user, session, node or seq are not what they have to be.
    """
    match frame:
        case {"user": str(user), "session": str(session), "node": str(node), "seq": head} if _is_seq(head):
            all_head = frame.get("all")
            known = all_head if _is_seq(all_head) else None
            return Welcome(user, session, node, head, known, _heartbeat_s(frame.get("heartbeat")))
    raise Unintelligible("the edge sent a welcome whose user, session, node or seq is none")


def read_progress(frame: Mapping[str, Any], *seqs: str) -> tuple[str, list[int]] | None:
    """Return the target and these seqs of a frame that tells of them, such as `caught_up`; None when it does not."""
    told = [frame.get(name) for name in seqs]
    match frame:
        case {"to": str(to)} if _is_target(to) and all(map(_is_seq, told)):
            return to, [seq for seq in told if _is_seq(seq)]
    return None


def read_subscribed(frame: Mapping[str, Any]) -> tuple[str, int] | None:
    """Return the topic and the head that a `subscribed` tells; None when it tells none."""
    match frame:
        case {"topic": str(topic), "seq": head} if _is_target(topic) and _is_seq(head):
            return topic, head
    return None


def read_presence(frame: Mapping[str, Any]) -> Members | Joined | Left | None:
    """Return what a `members`, `joined` or `left` tells of who else hears a topic; None when it tells nothing."""
    match frame:
        case {"type": "members", "topic": str(topic), "users": list(users)} if all(isinstance(user, str) for user in users):
            return Members(topic, tuple(users))
        case {"type": "joined", "topic": str(topic), "user": str(user)}:
            return Joined(topic, user)
        case {"type": "left", "topic": str(topic), "user": str(user)}:
            return Left(topic, user)
    return None


def read_retry_after_s(frame: Mapping[str, Any]) -> float | None:
    """Return after how many seconds a `bye` has the client come back, if it says so."""
    match frame.get("retry_after_ms"):
        case int(told_ms):
            return min(max(0, told_ms), _RETRY_AFTER_MAX_MS) / 1000
    return None


def read_expiring_s(frame: Mapping[str, Any], at_most_s: float) -> float:
    """Return for how many seconds the token is still good, as an `expiring` says, or `at_most_s`."""
    told_s = frame.get("in_s")
    return min(max(0.0, float(told_s)), at_most_s) if _is_finite(told_s) else at_most_s


def connect_frame(token: str, device: str | None, since: Mapping[str, int], topics: Sequence[str] = ()) -> str:
    """Return the first frame of a connection without a token in its header."""
    wishes: dict[str, Any] = {} if device is None else {"device": device}
    if since:
        wishes["since"] = dict(since)
    if topics:
        wishes["topics"] = list(topics)
    return json.dumps({"type": "connect", "token": token, **wishes})


def connect_address(url: str, device: str | None, since: Mapping[str, int], topics: Sequence[str] = ()) -> str:
    """Return the address that says the same, for a connection with the token in its header."""
    wishes = {} if device is None else {"device": device}
    if since:
        wishes["since"] = ",".join(str(seq) if name == OWN else f"{name}:{seq}" for name, seq in since.items())
    if topics:
        wishes["topics"] = ",".join(topics)
    if not wishes:
        return url
    joint = "&" if "?" in url else "?"
    return f"{url}{joint}{urlencode(wishes)}"


def ack_frame(to: str, seq: int) -> str:
    """Return an acknowledgement of everything of a target up to `seq`."""
    # The user's own is the default, and what every edge understands.
    named = {} if to.startswith(USER_PREFIX) else {"to": to}
    return json.dumps({"type": "ack", "seq": seq, **named})


def subscribe_frame(topic: str, since: int | None, *, presence: bool = False) -> str:
    """Return the wish to hear a topic, behind `since` or, with None, where the edge has the device, or from now on.

    With `presence` the members of the topic are wished for, too.
    """
    more: dict[str, int | bool] = {} if since is None else {"since": since}
    return json.dumps({"type": "subscribe", "topic": topic, **more, **({"presence": True} if presence else {})})


def unsubscribe_frame(topic: str) -> str:
    """Return the wish to hear a topic no longer."""
    return json.dumps({"type": "unsubscribe", "topic": topic})


def token_frame(token: str) -> str:
    """Return a newer token for a connection that is open."""
    return json.dumps({"type": "token", "token": token})


def _fits(frame: Mapping[str, Any]) -> bool:
    seq, text = frame.get("seq"), frame.get("text")
    return (seq is None or _is_seq(seq)) and (text is None or isinstance(text, str))


def _is_seq(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= SEQ_MAX


def _is_target(to: str) -> bool:
    # JSON can escape half a surrogate pair, which nothing could send back or write down.
    return to.isascii() or not any("\ud800" <= char <= "\udfff" for char in to)


def _heartbeat_s(told: object) -> float:
    return float(min(max(told, _HEARTBEAT_MIN_S), _HEARTBEAT_MAX_S)) if _is_finite(told) else _HEARTBEAT_S


def _is_finite(value: object) -> TypeGuard[float]:
    # math.isfinite() itself fails on an integer that no float can hold.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_FLOAT_MAX <= value <= _FLOAT_MAX


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is no JSON")
