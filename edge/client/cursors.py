"""Where a client's cursors are kept while it is away.

A store may give back older cursors than it was last given, and messages come again; it must never give newer ones, or
messages are passed over.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

import anyio.to_thread

from edge.client.errors import ClientError
from edge.client.frames import SEQ_MAX

_FIELD: Final = "cursors"


class CursorStore(Protocol):
    """Keeps one client's cursors. What it raises ends the iteration."""

    async def load(self) -> Mapping[str, int]:
        """Return target → seq as last saved; empty at the very beginning. Called once, before the first connection."""
        ...

    async def save(self, cursors: Mapping[str, int]) -> None:
        """Keep target → seq; all there are, not only what changed. Called as often as `ack_every` and `ack_interval_s` say.

        A target that is not there any more, such as a topic that was unsubscribed, is to be forgotten; where it is not, the
        next client that subscribes to that topic begins behind it.
        """
        ...


class MemoryCursors:
    """Keeps them as long as it lives itself: across clients, not across a crash."""

    def __init__(self, cursors: Mapping[str, int] | None = None) -> None:
        self._cursors = dict(cursors or {})

    async def load(self) -> Mapping[str, int]:
        """Return what is kept."""
        return dict(self._cursors)

    async def save(self, cursors: Mapping[str, int]) -> None:
        """Keep it."""
        self._cursors = dict(cursors)


class CursorsDamaged(ClientError):
    """A file of cursors cannot be read. To begin without it would pass over messages in silence.

    Attributes:
        path: the file.
        why: what is wrong with it.
    """

    def __init__(self, path: Path, why: str) -> None:
        self.path = path
        self.why = why
        super().__init__(f"{path} holds no cursors ({why}): put a good copy there, or remove it to begin anew")


class FileCursors:
    """Keeps them in a small JSON file.

    The file is replaced whole, so that it is read as it was before or after a save, whenever the process dies. Its content is
    flushed to the disk before the replacement, the folder's entry is not: after a power cut the file is whole too, but may be
    the one before, and the messages since come again. No cursor in it ever goes backwards, but for one that was forgotten in
    between. One process at a time.

    Args:
        path: the file; its folder exists. Another file, named `<path>.new`, stands beside it while it is written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._kept: dict[str, int] | None = None

    async def load(self) -> Mapping[str, int]:
        """Return what the file holds; empty when there is none.

        Raises:
            CursorsDamaged: when it holds something else.
            OSError: when it cannot be read.
        """
        self._kept = await anyio.to_thread.run_sync(_read, self.path)
        return dict(self._kept)

    async def save(self, cursors: Mapping[str, int]) -> None:
        """Write the file, unless it says so already. What was loaded and is not among the cursors any more is forgotten.

        Raises:
            CursorsDamaged: when what it held before was never loaded and cannot be.
            OSError: when it cannot be written; the one before stands.
        """
        # Who has not loaded what is there cannot mean to forget it.
        others = await self.load() if self._kept is None else {}
        kept = self._kept or {}
        merged = {**others, **{to: max(seq, kept.get(to, -1)) for to, seq in cursors.items()}}
        if merged != kept:
            await anyio.to_thread.run_sync(_write, self.path, merged)
            self._kept = merged


def _read(path: Path) -> dict[str, int]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as exc:  # the first stands for bad UTF-8 and bad JSON alike
        raise CursorsDamaged(path, "it is not JSON") from exc
    cursors = content.get(_FIELD) if isinstance(content, dict) else None
    if not isinstance(cursors, dict):
        raise CursorsDamaged(path, f'no object "{_FIELD}" is in it')
    for to, seq in cursors.items():
        if type(seq) is not int or not 0 <= seq <= SEQ_MAX:
            raise CursorsDamaged(path, f"{to} has no seq")
    return cursors


def _write(path: Path, cursors: Mapping[str, int]) -> None:
    new = path.with_name(path.name + ".new")
    with new.open("w", encoding="utf-8") as file:
        json.dump({_FIELD: cursors}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
