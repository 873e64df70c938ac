"""An outlet that keeps what it is given, and feeds to join."""

from __future__ import annotations

from edge.feed import Feed
from router.targets import ALL


def feed(target: str = ALL, head: int = 0) -> Feed:
    """Return a feed that may be joined."""
    made = Feed(target, 1_000_000, lambda _: None)
    made.start(head)
    return made


class KeptOutlet:
    """Keeps each flush as one write."""

    sessions = 1

    def __init__(self) -> None:
        self.out: list[bytes] = []
        self.writes: list[list[bytes]] = []
        self.ended = 0
        self.backlog_bytes = 0
        self.gone = False

    def flush(self) -> None:
        """Keep what is out."""
        self.writes.append(self.out.copy())
        self.out.clear()

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.writes.append([data])

    def overfull(self) -> None:
        """Count the end."""
        self.ended += 1

    def unreadable(self) -> None:
        """Count the end."""
        self.ended += 1

    @property
    def frames(self) -> list[bytes]:
        """All frames written, in order."""
        return [frame for write in self.writes for frame in write]
