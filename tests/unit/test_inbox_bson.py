"""router.inbox_bson: the bytes of a document say what the driver's own would say."""

from __future__ import annotations

from typing import Any

import bson
from hypothesis import given
from hypothesis import strategies as st

from router.inbox_bson import encode
from router.stored import make_document

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SEQS = st.integers(0, 2**53)
MS = st.integers(0, 2**41)


ONE: dict[str, Any] = {"body": "b", "carried": (("x-a", "1"),), "trace": True, "exclude": "session:s", "collapse": "key"}


@st.composite
def _documents(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a document, of the usual shape or with one field more."""
    usual: dict[str, Any] = {
        "target": draw(IDS),
        "message_id": draw(IDS),
        "place": (draw(SEQS), draw(SEQS)),
        "frame": draw(IDS),
        "carried": (),
        "now_ms": draw(MS),
        "shard": draw(st.integers(0, 1_000)),
        "expires_ms": draw(MS),
    }
    name = draw(st.sampled_from(["", "", *ONE]))
    return make_document(**usual | ({name: ONE[name]} if name else {}))


@given(st.lists(_documents(), max_size=6))
def test_bytes_say_what_the_driver_would(documents: list[dict[str, Any]]) -> None:
    """Each document is read back as the driver reads back its own, its fields in the same order."""
    read = [bson.decode(one) for one in encode(documents)]
    assert read == [bson.decode(bson.encode(one)) for one in documents]
    assert [list(one) for one in read] == [list(one) for one in documents]
