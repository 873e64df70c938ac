"""What of each target the application has handled, and when to keep and acknowledge it.

Theory of operation. A cursor is the last seq of a target that was *handled*, and there is no other figure: whoever asks for
the next message has handled the one before, and only who asks makes the client read. So whenever a frame is read, or a
connection is opened, what was handed out has been handled, and one number serves for three things:

    drop what comes twice     seq ≤ cursor, whatever the connection
    say what to send next     `since` at connecting
    survive a crash           kept by a store, acknowledged to the edge

The one message between is in hand: handed out, not handled. Whatever ends the process then, it is not counted, and comes
again.

Where nobody has a cursor, the order's head is the first one, as `welcome` and `subscribed` tell it; a device's is the edge's
to know. A topic that is given up has none any more. With a device, what it was is held until the topic is taken again: the
edge has an older one at best, and would send again what was handled.

Pure: the clock comes in as a value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Final

from edge.client.errors import ClientError
from edge.client.frames import ALL, OWN, TOPIC_PREFIX, USER_PREFIX, Message, Unintelligible

_NEVER: Final = math.inf


class CursorsOfAnother(ClientError):
    """The cursors belong to another user than the token; with them, messages would be passed over.

    Attributes:
        user: whom the token proves.
        target: whose cursor is kept.
    """

    def __init__(self, user: str, target: str) -> None:
        self.user = user
        self.target = target
        super().__init__(f"the token is {user}'s, the cursors are those of {target}: keep each user's apart")


class Progress:
    """One user's cursors.

    Args:
        kept: target → seq, as a store gave it.
        since: where the user's own target begins when `kept` does not say; None leaves it to the edge.
        device: whether the edge keeps cursors of its own for this client, which count where no cursor is given.
        ack_every: so many handled messages make it due to keep and acknowledge.
        ack_interval_s: so long after the first of them it is due in any case.

    Attributes:
        cursors: target → last seq handled.
        due_s: when to keep and acknowledge, on the clock that `handled` is given; infinity when there is nothing to.
        unkept: whether the cursors have moved since `note_kept`.
    """

    __slots__ = (
        "_count",
        "_device",
        "_every",
        "_forgotten",
        "_in_hand",
        "_interval_s",
        "_left",
        "_own",
        "_since",
        "_unacked",
        "cursors",
        "due_s",
        "unkept",
    )

    def __init__(
        self,
        kept: Mapping[str, int],
        since: int | None,
        *,
        device: bool,
        ack_every: int,
        ack_interval_s: float,
    ) -> None:
        self.cursors = dict(kept)
        self.due_s = _NEVER
        self.unkept = False
        self._since = since
        self._device = device
        self._every = ack_every
        self._interval_s = ack_interval_s
        self._in_hand: Message | None = None
        self._own = ""
        self._unacked: set[str] = set()
        self._count = 0
        # Topics given up that the store may have; topics given up → what a device has handled of them.
        self._forgotten: set[str] = set()
        self._left: dict[str, int | None] = {}

    @property
    def topics(self) -> list[str]:
        """The topics of which there is a cursor, in the order in which they began."""
        return [to.removeprefix(TOPIC_PREFIX) for to in self.cursors if to.startswith(TOPIC_PREFIX)]

    def since(self, topics: Iterable[str] = ()) -> dict[str, int]:
        """Return what to say at connecting: `user`, `all` or `topic:<name>`, of these topics → seq."""
        asked = {OWN, ALL, *(TOPIC_PREFIX + topic for topic in topics)}
        begun = {} if self._since is None else {OWN: self._since}
        named = {OWN if to.startswith(USER_PREFIX) else to: seq for to, seq in self.cursors.items()}
        return begun | {name: seq for name, seq in named.items() if name in asked}

    def welcomed(self, user: str, head: int, all_head: int | None, now_s: float) -> None:
        """Note whose session is open, and where its order and that of `all` stood when it began.

        Raises:
            CursorsOfAnother: when a cursor is another user's.
        """
        self._own = own = USER_PREFIX + user
        for target in self.cursors:
            if target.startswith(USER_PREFIX) and target != own:
                raise CursorsOfAnother(user, target)
        # `since` has said it of topics, and an edge takes no ack of one that the session has not joined yet.
        self._unacked = {to for to in self._unacked if not to.startswith(TOPIC_PREFIX)}
        # The edge began at its own cursor of the device, which it alone knows, or else at the head.
        start = head if self._since is None and not self._device else self._since
        self._begin(own, start, now_s)
        self._begin(ALL, None if self._device else all_head, now_s)

    def subscribed(self, target: str, head: int, now_s: float) -> None:
        """Note where the order of a topic stood when its subscription began."""
        self._begin(target, None if self._device else head, now_s)

    def subscribe(self, target: str, since: int | None, now_s: float) -> None:
        """Note that a topic is wanted, behind `since` unless a cursor is kept of it."""
        left = self._left.pop(target, None)
        if since is not None and target not in self.cursors:
            self._let_go(target)
        self._begin(target, left if since is None else since, now_s)

    def unsubscribe(self, target: str, now_s: float) -> int | None:
        """Forget a topic, and return what of it is to be acknowledged yet, if anything."""
        seq = self.cursors.pop(target, None)
        last = seq if target in self._unacked else None
        self._unacked.discard(target)
        if self._device:
            self._left[target] = seq
        else:
            self._let_go(target)
        if seq is not None:
            self._forgotten.add(target)
            self.unkept, self.due_s = True, now_s
        return last

    def take(self, message: Message) -> bool:
        """Tell whether a message is new, and is to be handed out now.

        Raises:
            Unintelligible: when it came before a welcome, or is another user's.
        """
        if not self._own or (message.to.startswith(USER_PREFIX) and message.to != self._own):
            raise Unintelligible(f"the edge sent a message to {message.to} on a session of {self._own or 'nobody yet'}")
        if message.seq is not None and message.seq <= self.cursors.get(message.to, -1):
            return False
        self._in_hand = message
        return True

    def handled(self, now_s: float) -> None:
        """Note that the application is done with what it was handed."""
        message, self._in_hand = self._in_hand, None
        if message is None or message.seq is None:
            return
        if message.to in self._left:
            self._left[message.to] = message.seq
        else:
            self._move(message.to, message.seq, now_s)

    def caught_up(self, to: str, seq: int, now_s: float) -> None:
        """Note that nothing of a target up to `seq` is still to come."""
        if seq > self.cursors.get(to, -1):
            self._move(to, seq, now_s)

    def unacked(self) -> dict[str, int]:
        """Return what has been handled and not acknowledged: target → seq."""
        return {to: self.cursors[to] for to in sorted(self._unacked)}

    def to_keep(self) -> dict[str, int]:
        """Return what the store is to have next. What was forgotten goes first, and comes back with a later save."""
        return {to: seq for to, seq in self.cursors.items() if to not in self._forgotten}

    def note_kept(self, kept: Mapping[str, int]) -> None:
        """Note what the store has: as `to_keep` said, before whatever happened since. There may be more to keep."""
        self._forgotten &= kept.keys()
        self.unkept = self.cursors != kept
        self._rest()

    def note_acked(self) -> None:
        """Note that the edge has been told."""
        self._unacked.clear()
        self._rest()

    def _begin(self, target: str, start: int | None, now_s: float) -> None:
        if start is not None and target not in self.cursors:
            self.cursors[target] = start
            # Nobody else knows where this began: it is to be kept before anything is handed out.
            self.unkept, self.due_s = True, now_s

    def _let_go(self, target: str) -> None:
        """What is in hand belongs to a subscription that is over, and moves no cursor."""
        if self._in_hand is not None and self._in_hand.to == target:
            self._in_hand = None

    def _move(self, to: str, seq: int, now_s: float) -> None:
        self.cursors[to] = seq
        self.unkept = True
        if self._device:
            self._unacked.add(to)
        self._count += 1
        if self._count >= self._every:
            self.due_s = now_s
        elif self.due_s == _NEVER:
            self.due_s = now_s + self._interval_s

    def _rest(self) -> None:
        if not self.unkept and not self._unacked:
            self.due_s, self._count = _NEVER, 0
