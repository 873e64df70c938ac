"""What has become of the durable items of a batch, once MongoDB has spoken. Pure.

`prev` in a line is always the seq of the line before it, so that an edge never looks for a message that is not there. It is
worked out here and not where seqs are given, because only now is it known which of them were used: an id that MongoDB had
already goes out with the seq it was stored with, and the one just drawn for it stays unused.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from router.collect import stages
from router.collect.batch import Item
from router.collect.intake import Place
from router.collect.joined import Lines
from router.stored import Body, Stored
from router.trace import Stage, TraceEvent


class Settled(msgspec.Struct):
    """Lines for `out`, and what else follows from a batch.

    Attributes:
        lines: per target in the order of their seqs.
        heads: target → the highest seq that is in `out` when these lines are.
        before: target → what that was before them.
        dead: (entry id, reason) of what cannot be stored.
        events: trace events.
        at_us: Unix µs that events are given; set it when MongoDB has answered.
        alone: `pending` holds nothing but what this batch was given.
    """

    lines: Lines
    heads: dict[str, int] = msgspec.field(default_factory=dict)
    before: dict[str, int] = msgspec.field(default_factory=dict)
    dead: list[tuple[str, str]] = msgspec.field(default_factory=list)
    events: list[TraceEvent] = msgspec.field(default_factory=list)
    at_us: int = 0
    alone: bool = False

    def begin(self, placed: Iterable[tuple[Item, Place]]) -> None:
        """Note the head of each target: its first item in a batch was placed right behind it."""
        for item, place in placed:
            self.before.setdefault(item.target, place.prev)
        self.heads = self.before.copy()

    def add(self, item: Item, place: Place, what: str | Body) -> None:
        """Add a message as it has been stored now: its place, and its frame or what it shares with others."""
        message, seq = item.message, place.seq
        prev = self._follow(item.target, place.prev, seq)
        self.lines.add(item.target, (prev, seq), message.expires_ms, what, trace=message.trace, exclude=message.exclude)
        if message.trace:
            self._tell(item, Stage.STORED, seq)

    def repeat(self, item: Item, stored: Stored) -> None:
        """Add a message as it was stored under the same id before."""
        prev = self._follow(item.target, stored.prev, stored.seq)
        trace, what = item.message.trace or stored.trace, stored.body or stored.frame
        self.lines.add(item.target, (prev, stored.seq), stored.expires_ms, what, trace=trace, exclude=stored.exclude)
        self._tell(item, Stage.REPEATED, stored.seq)

    def _follow(self, target: str, prev: int, seq: int) -> int:
        """Return the prev of a target's next line, which was given `prev`."""
        head = self.heads[target]
        if seq <= head:
            return prev
        self.heads[target] = seq
        return head

    def bury(self, item: Item, reason: str) -> None:
        """Add an item that cannot be stored."""
        self.dead.append((item.entry_id, reason))
        self._tell(item, Stage.DEAD, why=reason)

    def pass_over(self, target: str, seq: int) -> None:
        """Note a seq under which MongoDB has another message, or one whose body is gone: the next line follows that one."""
        self.heads[target] = max(seq, self.heads[target])

    def follow_with(self, later: Settled) -> None:
        """Add what was settled after all this."""
        self.lines.follow(later.lines)
        self.dead += later.dead
        self.events += later.events
        self.before = later.before | self.before
        for target, head in later.heads.items():
            self.heads[target] = max(head, self.heads.get(target, 0))

    def _tell(self, item: Item, stage: Stage, seq: int | None = None, why: str | None = None) -> None:
        if item.message.trace:
            self.events += stages.settled(item.message, item.target, stage, self.at_us, seq, why)
