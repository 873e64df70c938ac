"""What was read of topics and of `all` a moment ago, for everybody else who comes back to the same.

After an outage two thousand sessions come back to one topic, each behind a cursor of its own, and lack the same thousand
messages. Whoever comes first has a page read; it is kept as a stretch, with its frames finished, and sent to all whose cursor
lies in it:

    read by the first       (10, 40]                  kept: 10 ═══ 40
    read by one at 25       nothing                         10 ═══ 40
    read by one at 5        (5, 10]                    5 ══════════ 40     what touches is joined, up to a page
    read on by all of them  (40, 60]                   5 ══════════ 40 ═══ 60

Stretches of a target never overlap. One says all that was stored of `after` < seq <= `reached`: up to the head of that moment,
and nothing is ever stored below a head. What is not so for good is bounded by time: a message that is erased meanwhile is
served for `AGE_S` at most, and one whose own time is over is not served at all.

What a newer one of its key replaces is left out by the head that its reader knew. Whoever knows less, and might not come to
read the newer one, is not served such a stretch.

Pure: told the time, and what was read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Final

from edge.frames import text_frame
from edge.stride import PAGE_MAX, Stride
from router.collapse import Ahead
from router.stored import Page, Traced

AGE_S: Final = 3.0
"""How long what was read counts: about as long as a crowd takes to come back. An erased message may be sent for so long."""

KEPT_MAX_BYTES: Final = 8_388_608
"""Most that is kept of all targets."""

_MESSAGE_BYTES: Final = 160
"""About what a message takes besides its payload: its header, its seq, when it ends, and its places in three lists."""

_STRETCH_BYTES: Final = 512

_FOREVER: Final = datetime.max.replace(tzinfo=UTC)

_after = attrgetter("after")


@dataclass(frozen=True, slots=True)
class Part:
    """What a position is brought forward by, in finished frames.

    Attributes:
        seqs: of the messages, ascending.
        frames: of the same.
        reached: up to which seq nothing else is to be sent.
        whole: that is all that was asked for.
        traced: of `Page`.
        excluded: of `Page`; it may say more than there are messages.
    """

    seqs: Sequence[int]
    frames: Sequence[bytes]
    reached: int
    whole: bool
    traced: Sequence[Traced]
    excluded: Mapping[int, str]

    def for_whom(self, names: Collection[str]) -> Sequence[Traced]:
        """Return what is traced and does not pass those names by."""
        return [one for one in self.traced if self.excluded.get(one.seq, "") not in names]


def part_of(page: Page, until: int) -> Part:
    """Return a page that was asked for up to `until`, for one reader."""
    seqs, frames = [seq for seq, _ in page.messages], [text_frame(frame) for _, frame in page.messages]
    return Part(seqs, frames, until if page.whole else page.reached, page.whole, page.traced, page.excluded)


@dataclass(frozen=True, slots=True)
class Stretch:
    """All that was stored of a target with `after` < seq <= `reached`, a page at most.

    Attributes:
        after: behind which seq it begins.
        reached: with which seq it ends.
        seqs: of the messages, ascending.
        frames: of the same, finished.
        ends: when the time of each is over.
        ends_first: the earliest of these.
        traced: of `Page`.
        excluded: of `Page`.
        head: the highest by which a message was left out for a newer one of its key; 0 where none was.
        read_s: when it was read; the older half of what was joined.
        stride: the pace of whoever reads on from here.
        ahead: what is known of keyed messages, by whoever reads on from here.
        size: about what it takes, in bytes.
    """

    after: int
    reached: int
    seqs: list[int]
    frames: list[bytes]
    ends: list[datetime]
    ends_first: datetime
    traced: Sequence[Traced]
    excluded: Mapping[int, str]
    head: int
    read_s: float
    stride: Stride
    ahead: Ahead
    size: int

    def part(self, after: int, until: int, now: datetime) -> Part:
        """Return what lies in it with `after` < seq <= `until`, without what has ended by now."""
        reached = min(until, self.reached)
        first, last = bisect_right(self.seqs, after), bisect_right(self.seqs, reached)
        seqs, frames = self.seqs[first:last], self.frames[first:last]
        if now >= self.ends_first:
            alive = [index for index, ends in enumerate(self.ends[first:last]) if ends > now]
            seqs, frames = [seqs[index] for index in alive], [frames[index] for index in alive]
        traced = self._traced(after, reached, now) if self.traced else ()
        return Part(seqs, frames, reached, reached >= until, traced, self.excluded)

    def _traced(self, after: int, reached: int, now: datetime) -> Sequence[Traced]:
        over = {seq for seq, ends in zip(self.seqs, self.ends, strict=True) if ends <= now}
        some = [one for one in self.traced if after < one.seq <= reached]
        return [Traced(one.seq, one.frame, one.alive and one.seq not in over) for one in some]


def stretch_of(page: Page, span: tuple[int, int], known: tuple[int, Ahead], stride: Stride, read_s: float) -> Stretch:
    """Return what a page says of its target.

    Args:
        page: as it was read.
        span: (after, until), as it was asked for.
        known: the head by which newer ones of a key were looked for, and what was found.
        stride: the pace of its reader.
        read_s: when it was asked for, or earlier.
    """
    (after, until), (head, ahead) = span, known
    ends = [page.ends[seq] for seq, _ in page.messages]
    return Stretch(
        after=after,
        reached=until if page.whole else page.reached,
        seqs=[seq for seq, _ in page.messages],
        frames=[text_frame(frame) for _, frame in page.messages],
        ends=ends,
        ends_first=min(ends, default=_FOREVER),
        traced=page.traced,
        excluded=page.excluded,
        head=head if page.left_out else 0,
        read_s=read_s,
        stride=stride,
        ahead=ahead,
        size=_STRETCH_BYTES + sum(len(frame) + _MESSAGE_BYTES for _, frame in page.messages),
    )


def _joined(left: Stretch, right: Stretch) -> Stretch:
    """Return two that touch as one."""
    return Stretch(
        after=left.after,
        reached=right.reached,
        seqs=left.seqs + right.seqs,
        frames=left.frames + right.frames,
        ends=left.ends + right.ends,
        ends_first=min(left.ends_first, right.ends_first),
        traced=[*left.traced, *right.traced],
        excluded={**left.excluded, **right.excluded},
        head=max(left.head, right.head),
        read_s=min(left.read_s, right.read_s),
        stride=right.stride,
        ahead=right.ahead,
        size=left.size + right.size - _STRETCH_BYTES,
    )


class Replays:
    """The stretches of all targets.

    Args:
        stretch_max_bytes: what touches is joined up to this size; about a page.
        kept_max_bytes: most that is kept.
    """

    def __init__(self, stretch_max_bytes: int, kept_max_bytes: int = KEPT_MAX_BYTES) -> None:
        self._stretch_max_bytes = stretch_max_bytes
        self._kept_max_bytes = kept_max_bytes
        # Each target's by where they begin; the target that was asked for last stands last.
        self._kept: OrderedDict[str, list[Stretch]] = OrderedDict()
        self.bytes = 0

    def find(self, target: str, after: int, head: int, now_s: float) -> Stretch | None:
        """Return what somebody at `after`, who knows of `head`, is to be served from; None where it is to be read."""
        kept = self._kept.get(target)
        if kept is None:
            return None
        self._kept.move_to_end(target)
        index = bisect_right(kept, after, key=_after) - 1
        if index < 0 or kept[index].reached <= after:
            return None
        found = kept[index]
        if found.head > head or now_s - found.read_s > AGE_S:
            self._drop(target, index)
            return None
        return found

    def free(self, target: str, after: int, until: int) -> int:
        """Return up to which seq somebody at `after` is to read at most: what is kept need not be read again."""
        kept = self._kept.get(target, [])
        index = bisect_right(kept, after, key=_after)
        return min(until, kept[index].after) if index < len(kept) else until

    def keep(self, target: str, stretch: Stretch) -> None:
        """Keep what was read of a target, of which none of that was kept."""
        if stretch.reached <= stretch.after:
            return
        kept = self._kept.setdefault(target, [])
        self._kept.move_to_end(target)
        index = bisect_left(kept, stretch.after, key=_after)
        if index < len(kept) and self._may_join(stretch, kept[index]):
            stretch = _joined(stretch, self._take(kept, index))
        if index and self._may_join(kept[index - 1], stretch):
            stretch = _joined(self._take(kept, index - 1), stretch)
        insort(kept, stretch, key=_after)
        self.bytes += stretch.size
        while self.bytes > self._kept_max_bytes:
            self._drop_one()

    def drop_old(self, now_s: float) -> None:
        """Drop what counts no longer."""
        for target, kept in list(self._kept.items()):
            for index in range(len(kept) - 1, -1, -1):
                if now_s - kept[index].read_s > AGE_S:
                    self._drop(target, index)

    def _may_join(self, left: Stretch, right: Stretch) -> bool:
        few = len(left.seqs) + len(right.seqs) <= PAGE_MAX
        return left.reached == right.after and few and left.size + right.size <= self._stretch_max_bytes

    def _take(self, kept: list[Stretch], index: int) -> Stretch:
        taken = kept.pop(index)
        self.bytes -= taken.size
        return taken

    def _drop(self, target: str, index: int) -> None:
        self._take(self._kept[target], index)
        if not self._kept[target]:
            del self._kept[target]

    def _drop_one(self) -> None:
        """Drop the oldest stretch of the target that was asked for longest ago."""
        target = next(iter(self._kept))
        kept = self._kept[target]
        self._drop(target, min(range(len(kept)), key=lambda index: kept[index].read_s))
