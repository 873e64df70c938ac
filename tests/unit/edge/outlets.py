"""An outlet that keeps what it is given."""

from __future__ import annotations


class KeptOutlet:
    """Keeps each flush as one write."""

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
