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

    def __init__(self, *names: str) -> None:
        self.names = names
        self.out: list[bytes] = []
        self.writes: list[list[bytes]] = []
        self.ended = 0
        self.backlog_bytes = 0
        self.gone = False

    def put(self, frame: bytes, exclude: str) -> None:
        """Put out what does not pass it by."""
        if exclude not in self.names:
            self.out.append(frame)

    def flush(self) -> int:
        """Keep what is out."""
        self.writes.append(self.out.copy())
        self.out.clear()
        return len(self.writes[-1])

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
