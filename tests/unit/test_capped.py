"""router.capped: streams for people take no more memory than they may."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from router.capped import Capped

pytestmark = pytest.mark.anyio

KEY = "push:{0}:offline"
ENTRY_BYTES = 1_000


class Stream:
    """A Redis with one stream of entries of one size; `closed` is one whose user may not measure."""

    def __init__(self, entries: int, *, closed: bool = False) -> None:
        self.entries = entries
        self.closed = closed
        self.looks = 0

    async def memory_usage(self, key: str, samples: int) -> int | None:
        """Tell the size, of every node."""
        assert (key, samples) == (KEY, 0)
        self.looks += 1
        if self.closed:
            raise ResponseError("NOPERM")
        return self.entries * ENTRY_BYTES or None

    async def xlen(self, _key: str) -> int:
        """Tell the length."""
        return self.entries

    async def xtrim(self, _key: str, *, maxlen: int, approximate: bool) -> None:
        """Drop the older."""
        assert not approximate
        self.entries = maxlen


def _capped(stream: Any, **changes: int) -> Capped:  # noqa: ANN401 - what passes for a Redis
    return Capped(stream, KEY, 10 * ENTRY_BYTES, **changes)


@pytest.mark.parametrize(("entries", "left"), [(0, 0), (10, 10), (11, 5), (100, 6)])
async def test_the_newer_are_kept(entries: int, left: int) -> None:
    """Half of them, as often as it takes; what fits stays whole."""
    stream = Stream(entries)
    await _capped(stream).grew(1)
    assert stream.entries == left


async def test_what_has_grown_little_is_not_measured() -> None:
    """A look costs something, too."""
    stream = Stream(5)
    capped = _capped(stream, look_every=100)
    for _ in range(5):
        await capped.grew(40)
    assert stream.looks == 1


async def test_what_cannot_be_measured_is_told_once() -> None:
    """Nothing else stops for it."""
    stream = Stream(100, closed=True)
    capped = _capped(stream)
    with capture_logs() as logs:
        for _ in range(3):
            await capped.grew(1)
    assert [line["event"] for line in logs] == ["stream_unmeasured"]
    assert (stream.looks, stream.entries) == (1, 100)
