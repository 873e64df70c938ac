"""The guarantees, each deliberately broken in a copy of the product: what the checker has to notice.

An edit names the text that it replaces, as little of it as stands there once. Where that has changed, making the copy fails
and says which edit it was: find the place that gives the guarantee now, and break it there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import edge
import lua
import router

_PACKAGES = (edge, lua, router)


@dataclass(frozen=True, slots=True)
class Edit:
    """A change to one file of the product.

    Attributes:
        file: where, as in `router/turns.py`.
        old: text that stands there exactly once.
        new: what stands there instead.
    """

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Breakage:
    """A guarantee that is broken.

    Attributes:
        name: in a word or two.
        edits: how.
    """

    name: str
    edits: tuple[Edit, ...]


ACK_BEFORE_STORE: Final = Breakage(
    "ack before store",
    (
        Edit(
            "router/collect/owner.py",
            "*slices, last = _slices(plan.items",
            "await self._intake.append(\n"
            "            held, lines=[], heads={}, entry_ids=plan.durable.entry_ids, item_ids=[], trim=False\n"
            "        )\n"
            "        *slices, last = _slices(plan.items",
        ),
    ),
)
"""Entries are acknowledged and removed when they are taken, and stored after that."""

REPLAY_BEFORE_REGISTER: Final = Breakage(
    "replay before register",
    (
        Edit(
            "edge/admission.py",
            "self._routes.write(user, connection.registered)",
            "async def register_late() -> None:\n"
            "            await anyio.sleep(5)  # far longer than a message takes\n"
            "            self._routes.write(user)\n"
            "\n"
            "        self.find_head(connection)\n"
            "        self._tasks.start_soon(register_late)",
        ),
        # The write by which a device's session is announced would be early enough.
        Edit("edge/admission.py", "self._routes.write(user, connection.proved", "_ = (user, connection.proved"),
    ),
)
"""The inbox is read up to its head, and the route written a little later: what is published in between reaches nobody."""

PENDING_FORGOTTEN: Final = Breakage(
    "pending forgotten",
    (
        Edit("lua/take.lua", "0, 0, 0, '-', ", "0, 0, 0, '(' .. (redis.call('HGET', era_key, 'taken') or '0'), "),
        Edit("router/bell.py", 'self._stream, "0-0")', 'self._stream, "$")'),
    ),
)
"""A new owner goes on behind what its predecessor had in hand, and leaves that."""

PREV_IGNORED: Final = Breakage(
    "prev ignored",
    (
        Edit(
            "edge/position.py",
            "if prev <= self.last < seq:\n            self.last = seq\n            return",
            "if self.last < seq:\n            self.last = seq\n            return",
        ),
    ),
)
"""An edge delivers whatever is above the last seq, and does not see that something between is missing."""

IDS_FORGOTTEN: Final = Breakage(
    "duplicate filter off, collect's",
    (Edit("router/stored.py", '"_id": f"{target} {message_id}"', '"_id": f"{target} {message_id} {seq}"'),),
)
"""What a producer appends again, with the id it had, is stored again."""

REPEATS_DELIVERED: Final = Breakage(
    "duplicate filter off, the edge's",
    (Edit("edge/position.py", "return Verdict.DUPLICATE", "return Verdict.DELIVER"),),
)
"""An edge delivers again what the session has had."""

FENCING_OFF: Final = Breakage(
    "fencing off",
    (Edit("lua/append.lua", "if redis.call('GET', lease) ~= held then", "if false then"),),
)
"""Who has lost the lease moves its batch on all the same, and its heads, which are behind its successor's."""


BREAKAGES: Final = (
    ACK_BEFORE_STORE,
    REPLAY_BEFORE_REGISTER,
    PENDING_FORGOTTEN,
    PREV_IGNORED,
    IDS_FORGOTTEN,
    REPEATS_DELIVERED,
    FENCING_OFF,
)


def broken_copy(folder: Path, breakage: Breakage) -> Path:
    """Return a folder with a copy of the product that is broken like this; processes run from it with PYTHONPATH.

    Raises:
        AssertionError: when the text of an edit does not stand there exactly once.
    """
    for package in _PACKAGES:
        (source,) = package.__path__
        shutil.copytree(source, folder / package.__name__, ignore=shutil.ignore_patterns("__pycache__"))
    _apply(folder, breakage.edits)
    return folder


def _apply(folder: Path, edits: Iterable[Edit]) -> None:
    for edit in edits:
        path = folder / edit.file
        text = path.read_text(encoding="utf-8")
        found = text.count(edit.old)
        assert found == 1, f"in {edit.file} this stands {found} times, not once:\n{edit.old}"
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
