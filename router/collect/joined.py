"""Payload lines for `out` in the making: what shares a body shares a line. Pure.

A line of many (`router.lines`) stands where its first place was added, so a target whose own line stands behind that begins
another one: per target, lines keep the order in which they were added.

Only users share lines, for dispatch and edges part those alone; and nothing that is traced does, since each stage tells of a
line. How many may share one is bounded by places and by bytes: dispatch may have to report a frame for each.
"""

from __future__ import annotations

from dataclasses import dataclass

from router.lines import PLACES_MAX, build_line, build_many, build_opts, build_place
from router.stored import Body
from router.targets import USER_PREFIX


@dataclass(slots=True)
class _Many:
    """A line of many.

    Attributes:
        at: where among the lines it stands.
        opts: of all who share it.
        rest: of their frames.
        most: how many may share it.
        places: of those who do.
    """

    at: int
    opts: str
    rest: str
    most: int
    places: list[str]


class Lines:
    """Lines in the order of `out`.

    Args:
        most_bytes: about how long the frames of all who share a line may be, together.

    Attributes:
        messages: how many the lines stand for.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._lines: list[str | _Many] = []
        # Body and opts → the line that may be shared further.
        self._open: dict[tuple[str, str], _Many] = {}
        # Target → its last line, of those that stand behind a line that may be shared further.
        self._last: dict[str, int] = {}
        self.messages = 0

    def add(
        self,
        target: str,
        place: tuple[int | None, int | None],
        expires_ms: int | None,
        what: str | Body,
        *,
        trace: bool = False,
        exclude: str = "",
    ) -> None:
        """Add a message for one target: its place (prev, seq), and its frame or what it shares with others."""
        self.messages += 1
        if isinstance(what, Body):
            if target.startswith(USER_PREFIX) and not trace:
                self._share(target, place, build_opts(expires_ms, exclude=exclude), what)
                return
            what = what.frame(target, place[1])
        if self._open:
            self._last[target] = len(self._lines)
        prev, seq = place
        self._lines.append(build_line(target, prev, seq, expires_ms, what, trace=trace, exclude=exclude))

    def follow(self, later: Lines) -> None:
        """Add lines that go behind all of these; nothing is shared between the two."""
        self._lines += later.build()
        self._open.clear()
        self.messages += later.messages

    def build(self) -> list[str]:
        """Return the finished lines."""
        return [one if isinstance(one, str) else build_many(one.places, one.opts, one.rest) for one in self._lines]

    def _share(self, target: str, place: tuple[int | None, int | None], opts: str, body: Body) -> None:
        wish = (body.id, opts)
        line = self._open.get(wish)
        if line is None or len(line.places) >= line.most or self._last.get(target, -1) >= line.at:
            rest = body.rest
            most = min(PLACES_MAX, max(1, self._most_bytes // len(rest)))
            line = self._open[wish] = _Many(len(self._lines), opts, rest, most, [])
            self._lines.append(line)
        self._last[target] = line.at
        line.places.append(build_place(target, *place))
