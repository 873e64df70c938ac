"""What the inbox holds of messages, and the shapes in which it gives them back.

_id         "<target> <id>": the same id again for a target is the same document
target      user:<id>, topic:<name> or all
seq, prev   the message's place in its target's order; prev may be a number that was drawn and never used
id          the message's id
frame       the finished JSON that the client gets; or
body        the `_id` of what many targets share of it (`Body`), in its place
carried     traceparent and x-* fields, where there were any
exclude     whom it passes by, where anybody
collapse    its key, where it has one: a replay sends only the newest
trace       true where every stage is to tell of it
shard       the target's, and
stored_at   when collect stored it: what recovery looks for
expires_at  after this it is neither delivered nor replayed; a TTL index removes it `idempotency_s` later
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from router.lines import build_frame, build_rest, content_of

Document = dict[str, Any]
"""A document as the driver takes and gives it."""

_DIGEST_BYTES: Final = 8


class Body(msgspec.Struct, frozen=True, gc=False):
    """What the frames of a message to many targets have in common, stored once.

    Attributes:
        id: its `_id` in `bodies`; see `make_body`.
        message_id: the message's.
        ts_ms: when it was appended, Unix ms.
        content: as it stands in the frame.
    """

    id: str
    message_id: str
    ts_ms: int
    content: str

    @property
    def rest(self) -> str:
        """What stands in each frame behind the seq."""
        return build_rest(self.message_id, self.ts_ms, self.content)

    def frame(self, target: str, seq: int | None) -> str:
        """Return the frame of one target; `seq` is None when it is transient."""
        return build_frame(target, seq, self.message_id, self.ts_ms, self.content)


def make_body(message_id: str, ts_ms: int, content: str) -> Body:
    """Return a message's body. Its id is told from what it says: who refers to it never gets anything else."""
    digest = blake2b(f"{ts_ms} {content}".encode(), digest_size=_DIGEST_BYTES).hexdigest()
    return Body(f"{message_id} {digest}", message_id, ts_ms, content)


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What the inbox holds of a message.

    Attributes:
        frame: as the client gets it; "" where it has a body, or had one that is gone.
        body: in its place.
    """

    seq: int
    prev: int
    frame: str
    expires_ms: int | None
    trace: bool = False
    exclude: str = ""
    body: Body | None = None

    @property
    def content(self) -> str:
        """The content as it stands in the frame; "" where it is gone."""
        return content_of(self.frame) if self.body is None else self.body.content

    @property
    def gone(self) -> bool:
        """Whether all that is left of it is its place."""
        return not self.frame and self.body is None


@dataclass(frozen=True, slots=True)
class Recent:
    """A message that was stored lately; its `frame` is "" where it has a body."""

    target: str
    seq: int
    frame: str
    expires_ms: int
    trace: bool = False
    exclude: str = ""
    body: Body | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """A message of one target, as people ask for it; times have a time zone."""

    target: str
    seq: int
    stored_at: datetime
    expires_at: datetime
    carried: Mapping[str, str]
    trace: bool
    exclude: str = ""


@dataclass(frozen=True, slots=True)
class Traced:
    """A message of a page that every stage is to tell of."""

    seq: int
    frame: bytes
    alive: bool


class Keyed(NamedTuple):
    """The key of a message of a page, and when the message ends."""

    key: str
    ends: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a target's messages, ascending.

    Attributes:
        messages: (seq, frame in UTF-8).
        reached: up to which seq was looked; above the last message where the time of those behind it is over.
        whole: nothing is left of what was asked for.
        traced: those to tell of, and those left out because their time is over, which are not `alive`.
        excluded: seq → whom the message passes by, where anybody.
        collapse: seq → the message's key, where it has one and is among the messages.
        left_out: how many have a newer one of their key (`router.collapse`), and are not among the messages.
        ends: seq → when the message's time is over, of each that is among the messages.
    """

    messages: list[tuple[int, bytes]]
    reached: int
    whole: bool
    traced: Sequence[Traced] = ()
    excluded: Mapping[int, str] = field(default_factory=dict)
    collapse: Mapping[int, Keyed] = field(default_factory=dict)
    left_out: int = 0
    ends: Mapping[int, datetime] = field(default_factory=dict)


@dataclass(slots=True)
class Insertion:
    """How a bulk insert went; indexes are those of the documents given.

    Attributes:
        taken: documents whose `_id` or (target, seq) stands there already.
        refused: documents that MongoDB will not have at all → its reason.
    """

    taken: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)


def make_document(
    *,
    target: str,
    message_id: str,
    place: tuple[int, int],
    frame: str = "",
    body: str = "",
    carried: Sequence[tuple[str, str]],
    now_ms: int,
    shard: int,
    expires_ms: int,
    trace: bool = False,
    exclude: str = "",
    collapse: str = "",
) -> Document:
    """Return the inbox document of a message for one target: `place` is (prev, seq), and `body` goes before `frame`."""
    prev, seq = place
    document: Document = {
        "_id": f"{target} {message_id}",
        "target": target,
        "seq": seq,
        "prev": prev,
        "id": message_id,
        "body" if body else "frame": body or frame,
        "shard": shard,
        "stored_at": _time_of(now_ms),
        "expires_at": _time_of(expires_ms),
    }
    if carried:
        document["carried"] = dict(carried)
    if trace:
        document["trace"] = True
    if exclude:
        document["exclude"] = exclude
    if collapse:
        document["collapse"] = collapse
    return document


def make_body_document(body: Body, expires_ms: int) -> Document:
    """Return the document of a body; `expires_ms` is that of the document which refers to it."""
    return {
        "_id": body.id,
        "id": body.message_id,
        "ts": body.ts_ms,
        "content": body.content,
        "expires_at": _time_of(expires_ms),
    }


@lru_cache(maxsize=16)
def _time_of(unix_ms: int) -> datetime:
    """Return the time as the driver takes it; the documents of a batch have nearly all the same two."""
    return datetime.fromtimestamp(unix_ms / 1000, UTC)
