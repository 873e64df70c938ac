"""Documents of the inbox as bytes of BSON.

All but a few have the same nine fields in the same order, so what changes from one to the next are four texts and two
numbers. To put those together takes half as long as the driver's encoder, in C as that is: it asks each value what it is, and
each time which zone it is of. What is not of that shape is left to it.

Source: https://bsonspec.org/spec.html
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from struct import Struct
from typing import Final

import bson

from router.stored import Document

_USUAL: Final = ("_id", "target", "seq", "prev", "id", "frame", "shard", "stored_at", "expires_at")
"""The fields of a document, in order, that has nothing more to say."""

_INT32: Final = Struct("<i").pack
_BEGINNING: Final = Struct("<i5si").pack
_SEQS: Final = Struct("<5sq6sq4si").pack
_END: Final = Struct("<7si11sq12sqs").pack
_REST: Final = Struct("<i5si5sq6sq4si").size + len(b"\x02target\0\x02frame\0") + 2 * Struct("<i").size
"""Bytes of a document without its four texts, each with the zero that ends it, and without its end."""


def _ms(time: datetime) -> int:
    """Return a time as Unix ms, of which it is a whole number."""
    return round(time.timestamp() * 1000)


def encode(documents: Sequence[Document]) -> list[bytes]:
    """Return each document in BSON."""
    encoded: list[bytes] = []
    # Documents of one batch nearly all end alike.
    shard = stored_at = expires_at = None
    end = b""
    for document in documents:
        if tuple(document) != _USUAL:
            encoded.append(bson.encode(document))
            continue
        _id, target, seq, prev, message_id, frame, in_shard, stored, expires = document.values()
        if in_shard is not shard or stored is not stored_at or expires is not expires_at:
            shard, stored_at, expires_at = in_shard, stored, expires
            end = _END(b"\x10shard\0", shard, b"\x09stored_at\0", _ms(stored), b"\x09expires_at\0", _ms(expires), b"\0")
        _id, target, message_id, frame = _id.encode(), target.encode(), message_id.encode(), frame.encode()
        a, b, c, d = len(_id) + 1, len(target) + 1, len(message_id) + 1, len(frame) + 1
        begun = _BEGINNING(a + b + c + d + _REST + len(end), b"\x02_id\0", a)
        seqs = _SEQS(b"\x12seq\0", seq, b"\x12prev\0", prev, b"\x02id\0", c)
        encoded.append(
            b"%b%b\0\x02target\0%b%b\0%b%b\0\x02frame\0%b%b\0%b"
            % (begun, _id, _INT32(b), target, seqs, message_id, _INT32(d), frame, end)
        )
    return encoded
