"""edge.kicked: all sessions of a user that are here end, with the reason that was given."""

from __future__ import annotations

import pytest

from edge.closes import Close
from edge.kicked import hear
from router.kick import KICKED


class Holder:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.closes: list[tuple[Close, str]] = []

    def close(self, close: Close, detail: str = "") -> None:
        """Keep it."""
        self.closes.append((close, detail))


def test_every_session_of_the_user_ends() -> None:
    """With the code that says not to come back."""
    holders = {"älice": [Holder(), Holder()], "bob": [Holder()]}
    hear(holders.__getitem__, '{"user":"älice","code":4502,"reason":"gone"}'.encode())
    assert [holder.closes for holder in holders["älice"]] == [[(Close.KICKED, "gone")]] * 2
    assert holders["bob"][0].closes == []
    assert Close.KICKED.code == KICKED


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b'{"user":"a","code":4502}', b'{"user":"a","code":1000,"reason":"r"}', b"\xff"]
)
def test_a_line_that_says_something_else(payload: bytes) -> None:
    """It is refused, and nobody is looked for."""
    with pytest.raises(ValueError, match=r"."):
        hear(lambda _: pytest.fail("nobody is looked for"), payload)
