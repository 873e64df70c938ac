"""What MongoDB's `later` holds of messages that wait for their time, and the shape in which it gives them back.

_id         "<shard> <message id> <digest of targets and content>", so that an entry appended again is the same document
shard       the targets'
id          the message's id
targets     up to `TARGETS_A_DOCUMENT` of them; a message to more is several documents
content     as it stands in the frame
at          Unix ms: not before then
due_at      the same as a date, by which it is found; `IN_HAND` from when the owner of the shard takes it until it is sent
load        how many targets there were, and how many bytes of content for all of them: what a batch is measured by
expires_at  Unix ms after which it is not delivered, where it says so
carried, exclude, collapse, trace    where given
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

import msgspec

from router.stored import Document

IN_HAND: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""`due_at` of what is being sent: before every time that is due."""

TARGETS_A_DOCUMENT: Final = 1_000
"""A document holds 16 MiB, nearly all of which may be content; and a batch of due messages is made of whole documents."""

_DIGEST_BYTES: Final = 8


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """A message that waits, for targets of one shard.

    Attributes:
        key: its `_id`.
        shard: the targets'.
        id: the message's id.
        targets: whose.
        content: as it stands in the frame.
        at_ms: Unix ms before which it is not sent.
        expires_ms: Unix ms after which it is not delivered; None when only retention ends it.
        trace: every stage is to tell of it.
        carried: traceparent and x-* fields.
        exclude: whom it passes by; "" for nobody.
        collapse: its key; "" for none.
        in_hand: it is being sent, and cannot be called back.
    """

    key: str
    shard: int
    id: str
    targets: tuple[str, ...]
    content: str
    at_ms: int
    expires_ms: int | None = None
    trace: bool = False
    carried: tuple[tuple[str, str], ...] = ()
    exclude: str = ""
    collapse: str = ""
    in_hand: bool = False


def waiting_key(shard: int, message_id: str, targets: Sequence[str], content: str) -> str:
    """Return the `_id` of a message that waits, for these targets of a shard."""
    told = f"{','.join(targets)} {content}".encode()
    return f"{shard} {message_id} {blake2b(told, digest_size=_DIGEST_BYTES).hexdigest()}"


def make_waiting_document(one: Waiting) -> Document:
    """Return the document of a message that waits."""
    document: dict[str, Any] = {
        "_id": one.key,
        "shard": one.shard,
        "id": one.id,
        "targets": list(one.targets),
        "content": one.content,
        "at": one.at_ms,
        "due_at": time_of(one.at_ms),
        "load": [len(one.targets), len(one.targets) * len(one.content)],
    }
    if one.expires_ms is not None:
        document["expires_at"] = one.expires_ms
    more = {"carried": dict(one.carried), "exclude": one.exclude, "collapse": one.collapse, "trace": one.trace}
    return document | {name: value for name, value in more.items() if value}


def read_waiting(document: Document) -> Waiting:
    """Return what a document says."""
    expires_ms = document.get("expires_at")
    return Waiting(
        key=document["_id"],
        shard=int(document["shard"]),
        id=document["id"],
        targets=tuple(document["targets"]),
        content=document["content"],
        at_ms=int(document["at"]),
        expires_ms=None if expires_ms is None else int(expires_ms),
        trace=document.get("trace", False),
        carried=tuple(document.get("carried", {}).items()),
        exclude=document.get("exclude", ""),
        collapse=document.get("collapse", ""),
        in_hand=document["due_at"] == IN_HAND,
    )


def in_order(waiting: Iterable[Waiting]) -> list[Waiting]:
    """Return messages in the order in which they are due."""
    return sorted(waiting, key=lambda one: (one.at_ms, one.key))


def time_of(unix_ms: int) -> datetime:
    """Return the time as the driver takes it."""
    # Whole ms, which a float of seconds would not always give back.
    return IN_HAND + timedelta(milliseconds=unix_ms)
