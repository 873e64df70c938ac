"""What one device tells the history, and what it must remember itself to come back."""

from __future__ import annotations

from tests.chaos.history import Began, Came, Closed, DeviceKind, Got, History, Joined, Opened, Told, Went

ABNORMAL = 1006


class Recorder:
    """One device's side of a history.

    Args:
        history: takes the events.
        user: whose device it is.
        name: the device's.

    Attributes:
        target: the user's own.
        excluded: what a message that passes the device by says.
        cursor: the last seq of the user's own messages; what a device that keeps its cursor comes back with.
        begun: whether it is clear from where on the device is owed everything.
        connected: whether a connection is open, as far as the device knows.
        welcomes: how many it had.
    """

    def __init__(self, history: History, user: str, name: str) -> None:
        self.user = user
        self.name = name
        self.target = f"user:{user}"
        self.excluded = f"device:{user},{name}"
        self.cursor = 0
        self.begun = False
        self.connected = False
        self.welcomes = 0
        self._history = history
        self._device = f"{user}/{name}"

    def joined(self, kind: DeviceKind) -> None:
        """A life begins."""
        self._history.note(Joined(self._history.now(), self._device, kind))

    def began(self, seq: int) -> None:
        """From now on the device is owed what is above this."""
        self.begun = True
        self.cursor = seq
        self._history.note(Began(self._history.now(), self._device, self.target, seq))

    def came(self) -> None:
        """It wants to be connected and reads."""
        self._history.note(Came(self._history.now(), self._device))

    def went(self) -> None:
        """It does not, of its own will."""
        self._history.note(Went(self._history.now(), self._device))

    def opened(self, session: str, node: str, since: int | None, head: int | None) -> None:
        """A welcome came."""
        self.connected = True
        self.welcomes += 1
        self._history.note(Opened(self._history.now(), self._device, session, node, since, head))

    def got(self, seq: int | None, ident: str, to: str) -> None:
        """A message came; one without a seq is not recorded, nothing is promised of it."""
        if seq is None:
            return
        self._history.note(Got(self._history.now(), self._device, seq, ident, to))
        if to == self.target:
            self.cursor = max(self.cursor, seq)

    def told(self, target: str, from_seq: int, until: int) -> None:
        """A `lost` frame came."""
        self._history.note(Told(self._history.now(), self._device, target, from_seq, until))

    def closed(self, code: int | None) -> None:
        """The connection, if there is one, ended."""
        if self.connected:
            self.connected = False
            self._history.note(Closed(self._history.now(), self._device, code))
