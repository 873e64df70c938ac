"""Which of a device's sessions is to stay: the one that was proved alive last, as far as one of them has heard. Pure."""

from __future__ import annotations


class Rivals:
    """A session's proof, against those of the others of its device.

    A proof is the time by Redis' clock at which the other nodes were told of it, and behind that the session's id, so that of
    two in the same microsecond both sides see the same one stay.
    """

    __slots__ = ("_latest", "_own")

    def __init__(self) -> None:
        self._own: tuple[int, str] | None = None
        self._latest = (0, "")

    def proved(self, at_us: int, session: str) -> None:
        """The session itself was proved alive."""
        self._own = (at_us, session)

    def heard_of(self, at_us: int, session: str) -> None:
        """Some session of the device was, maybe this one; one that is not proved itself yet is compared later."""
        self._latest = max(self._latest, (at_us, session))

    @property
    def outdone(self) -> bool:
        """Whether another one stays."""
        return self._own is not None and self._latest > self._own
