"""What happened in a chaos run, as facts in the order they were seen, by one clock.

Producers, devices and whoever injects faults append events; the checker reads them when all is over. An event says what was
seen from outside, never what should have been. `at_s` is `time.monotonic()` of the controlling process, less its start.

A device is written `<user>/<device name>`. On disk a history is JSON lines: `{"event": "Got", "at_s": 1.25, …}`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeVar

DeviceKind = Literal["client", "raw"]
"""Through the Python client, which promises each message once, or a bare WebSocket, which may see a seq again."""


@dataclass(frozen=True, slots=True)
class Tried:
    """A producer makes its first attempt to append a message, for one of its targets; or appends it anew with another time.

    Attributes:
        at_s: when.
        producer: who.
        id: the message's.
        target: one of its targets.
        due_s: before when it is not to be sent, by the same clock; 0 means at once.
    """

    at_s: float
    producer: str
    id: str
    target: str
    due_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Appended:
    """XADD has answered, to the first attempt or a later one; `entry` is the id it gave, `due_s` as of `Tried`."""

    at_s: float
    producer: str
    id: str
    target: str
    entry: str
    due_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Joined:
    """A life of a device begins: what it had in memory before is gone, and duplicates are counted anew."""

    at_s: float
    device: str
    kind: DeviceKind


@dataclass(frozen=True, slots=True)
class Began:
    """From now on the device is owed every message of the target with a seq above this one."""

    at_s: float
    device: str
    target: str
    seq: int


@dataclass(frozen=True, slots=True)
class Came:
    """The device wants to be connected and reads."""

    at_s: float
    device: str


@dataclass(frozen=True, slots=True)
class Went:
    """The device, of its own will, is disconnected or does not read: it waits for nothing until it has `Came` again."""

    at_s: float
    device: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A welcome came; `since` is what was asked for (None: the server's cursor, or now), `head` its seq, if known."""

    at_s: float
    device: str
    session: str
    node: str
    since: int | None
    head: int | None


@dataclass(frozen=True, slots=True)
class Got:
    """A message with a seq reached the device: its application, or its socket when raw."""

    at_s: float
    device: str
    seq: int
    id: str
    to: str


@dataclass(frozen=True, slots=True)
class Told:
    """A `lost` frame came: the messages in (from_seq, until] are gone, says the edge."""

    at_s: float
    device: str
    target: str
    from_seq: int
    until: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A connection ended; `code` is None when the device itself ended it, 1006 when there was no close frame."""

    at_s: float
    device: str
    code: int | None


@dataclass(frozen=True, slots=True)
class FaultBegan:
    """Something is done to a process or a link.

    Attributes:
        at_s: when.
        fault: names this one among all of the run, as in `7 kill edge-1`.
        kind: what is done, as in `kill`, `stop`, `failover`; figures are summed up by it.
        process: to whom, as in `edge-1`, or a link such as `edge-1>redis`; a bar's row in the picture.
        detail: anything more that a reader wants to know.
    """

    at_s: float
    fault: str
    kind: str
    process: str
    detail: str


@dataclass(frozen=True, slots=True)
class FaultEnded:
    """What was done is undone: the process is ready again, the link whole."""

    at_s: float
    fault: str


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message as MongoDB's inbox has it at the end. Not an event: it is read, not seen.

    Attributes:
        target: whose.
        seq: its place.
        id: the message's.
        stored_s: when, Unix time.
        exclude: whom it passes by; "" for nobody.
        collapse: its key; "" for none.
    """

    target: str
    seq: int
    id: str
    stored_s: float
    exclude: str = ""
    collapse: str = ""

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        """Return what a document of the inbox says."""
        more = {name: document[name] for name in ("exclude", "collapse") if name in document}
        return cls(document["target"], int(document["seq"]), document["id"], document["stored_at"].timestamp(), **more)


ACCEPTED_FIELDS: Final = ("target", "seq", "id", "stored_at", "exclude", "collapse")
"""What of a document `Accepted.of_document` needs."""


Event = Tried | Appended | Joined | Began | Came | Went | Opened | Got | Told | Closed | FaultBegan | FaultEnded

_KINDS: Final[dict[str, type[Event]]] = {
    kind.__name__: kind
    for kind in (Tried, Appended, Joined, Began, Came, Went, Opened, Got, Told, Closed, FaultBegan, FaultEnded)
}

E = TypeVar("E", bound=Event)


class History:
    """Events in the order they were noted, by one clock that starts at 0.

    Args:
        clock: gives seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start_s = clock()
        self._events: list[Event] = []

    def now(self) -> float:
        """Return the seconds since the history began: the `at_s` of an event noted now."""
        return self._clock() - self._start_s

    def note(self, event: Event) -> None:
        """Append an event; `at_s` is the caller's, from `now`."""
        self._events.append(event)

    def of(self, kind: type[E]) -> Iterator[E]:
        """Yield the events of one kind, in order."""
        return (event for event in self._events if isinstance(event, kind))

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    def __len__(self) -> int:
        return len(self._events)

    def dump(self, path: Path) -> None:
        """Write all events as JSON lines."""
        with path.open("w", encoding="utf-8") as file:
            file.writelines(_line(event) for event in self._events)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return a history as `dump` wrote it; its clock begins anew, so nothing should be noted in it.

        Raises:
            KeyError: on an event of a kind that is not known.
        """
        with path.open(encoding="utf-8") as file:
            return cls.of_events(_event(line) for line in file)

    @classmethod
    def of_events(cls, events: Iterable[Event]) -> Self:
        """Return a history of these events."""
        history = cls()
        history._events.extend(events)
        return history


def _line(event: Event) -> str:
    return json.dumps({"event": type(event).__name__, **asdict(event)}, ensure_ascii=False) + "\n"


def _event(line: str) -> Event:
    fields = json.loads(line)
    return _KINDS[fields.pop("event")](**fields)
