"""router.api.bounds: how much is taken on at once."""

from __future__ import annotations

from contextlib import suppress

import pytest

from router.api.bounds import Room
from router.http.problems import Problem


def test_beyond_the_room_is_503() -> None:
    """It says when to come again, and takes nothing."""
    room = Room(10, "bytes")
    with room.share() as one, room.share() as another:
        one(6)
        another(4)
        with pytest.raises(Problem) as caught:
            another(1)
        assert room.taken == 10
    assert (caught.value.status_code, "retry-after" in (caught.value.headers or {})) == (503, True)
    assert "10 bytes are in hand" in caught.value.detail


def test_room_is_given_back() -> None:
    """However a request ends, others have its room."""
    room = Room(10, "bytes")
    with suppress(KeyError), room.share() as take:
        take(10)
        raise KeyError
    with room.share() as one, room.share() as another:
        one(5)
        another(5)
    assert room.taken == 0


def test_whoever_is_alone_is_taken() -> None:
    """A request that is longer than all of the room would otherwise be sent again for ever."""
    room = Room(10, "bytes")
    with room.share() as take:
        take(8)
        take(8)
        with room.share() as other, pytest.raises(Problem):
            other(1)
