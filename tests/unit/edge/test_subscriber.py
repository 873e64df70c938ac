"""edge.subscriber: one connection's bytes, without a server."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.subscriber import LOST, REVOKED, Subscription

CHANNELS = ("push:{0}:node:e.1", "push:{1}:node:e.1")


class KeptTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Keep it."""
        self.written += bytes(data)

    def abort(self) -> None:
        """Note it."""
        self.aborted = True


class Heard:
    """A subscription and what it handed on, a list a chunk."""

    def __init__(self, *greeting: tuple[str, ...]) -> None:
        self.chunks: list[list[bytes]] = []
        self.added: list[str] = []
        self.subscription = Subscription(greeting, CHANNELS, self.chunks.append, self.added.append)
        self.transport = KeptTransport()
        self.subscription.connection_made(self.transport)

    def data(self, *replies: bytes) -> None:
        """Receive one chunk."""
        self.subscription.data_received(b"".join(replies))


def array(*parts: bytes | int) -> bytes:
    """Return a RESP2 array."""
    items = (b":%d\r\n" % part if isinstance(part, int) else b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n" % len(parts) + b"".join(items)


def confirmed(n: int) -> bytes:
    """Return the confirmation of a channel."""
    return array(b"ssubscribe", CHANNELS[n].encode(), n + 1)


def published(payload: bytes, n: int = 0) -> bytes:
    """Return a message."""
    return array(b"smessage", CHANNELS[n].encode(), payload)


def test_it_greets_and_subscribes_in_one_go() -> None:
    """One SSUBSCRIBE a channel."""
    heard = Heard(("AUTH", "pw"))
    assert heard.transport.written == array(b"AUTH", b"pw") + b"".join(array(b"SSUBSCRIBE", name.encode()) for name in CHANNELS)


def test_it_is_settled_when_every_channel_is_confirmed() -> None:
    """Not before; what comes on the first is heard already."""
    heard = Heard(("AUTH", "pw"))
    heard.data(b"+OK\r\n", confirmed(0), published(b"a"))
    assert not heard.subscription.settled.is_set()
    heard.data(confirmed(1))
    assert heard.subscription.settled.is_set()
    assert not heard.subscription.ended.is_set()
    assert heard.chunks == [[b"a"]]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"-NOAUTH Authentication required.\r\n", LOST),
        (b"nonsense", LOST),
        (array(b"sunsubscribe", CHANNELS[0].encode(), 1), REVOKED),
    ],
)
def test_a_refusal_or_a_channel_taken_back_ends_it(reply: bytes, reason: str) -> None:
    """With the reason, the error in words, and what came before handed on."""
    heard = Heard()
    heard.data(confirmed(0), confirmed(1), published(b"a"), reply)
    assert heard.subscription.ended.is_set()
    assert heard.subscription.reason == reason
    assert str(heard.subscription.error)
    assert heard.transport.aborted
    assert heard.chunks == [[b"a"]]


TOPIC = "push:{0}:topic:news"
REFUSED = b"-NOPERM this user has no permissions to access one of the channels used as arguments\r\n"


def test_a_channel_that_is_refused_is_done_without() -> None:
    """It is named, with the user and what to do; the others are heard, and it is asked for again when told to."""
    heard = Heard(("AUTH", "edge", "pw"))
    heard.subscription.hear(TOPIC)
    heard.data(b"+OK\r\n", confirmed(0), confirmed(1), REFUSED, published(b"a"))
    assert heard.subscription.settled.is_set()
    assert not heard.subscription.ended.is_set()
    assert heard.chunks == [[b"a"]]
    told = heard.subscription.refused[TOPIC]
    assert all(word in told for word in ("user edge", f"SSUBSCRIBE {TOPIC}", "ACL LOG", "pushway acl"))

    heard.transport.written = b""
    heard.subscription.ask_again()
    assert heard.transport.written == array(b"SSUBSCRIBE", TOPIC.encode())
    assert heard.added == []
    heard.data(array(b"ssubscribe", TOPIC.encode(), 3))
    assert heard.added == [TOPIC]
    assert not heard.subscription.refused


def test_the_refused_one_is_found_among_many() -> None:
    """Answers come in the order of what was asked, with channels that Redis takes back in between."""
    heard = Heard()
    heard.data(confirmed(0), confirmed(1))
    others = [f"{TOPIC}-{n}" for n in range(3)]
    for channel in others:
        heard.subscription.hear(channel)
    heard.subscription.drop(others[0])
    answers = [array(b"ssubscribe", others[0].encode(), 3), REFUSED, array(b"ssubscribe", others[2].encode(), 4)]
    heard.data(*answers, array(b"sunsubscribe", others[0].encode(), 3), published(b"a"))
    assert list(heard.subscription.refused) == [others[1]]
    assert heard.added == [others[2]]
    assert not heard.subscription.ended.is_set()


def test_a_refused_channel_can_be_left() -> None:
    """Redis confirms that too, and nothing is left of it."""
    heard = Heard()
    heard.subscription.hear(TOPIC)
    heard.data(confirmed(0), confirmed(1), REFUSED)
    heard.subscription.drop(TOPIC)
    heard.data(array(b"sunsubscribe", TOPIC.encode(), 2))
    assert not heard.subscription.refused
    assert not heard.subscription.ended.is_set()


def test_without_a_needed_channel_there_is_no_subscription() -> None:
    """Nor without a command that greets."""
    for greeting, answers in (((), [REFUSED]), ((("CLIENT", "SETNAME", "x"),), [REFUSED, confirmed(0), confirmed(1)])):
        subscription = Subscription(greeting, CHANNELS, lambda _: None, needed=CHANNELS)
        subscription.connection_made(KeptTransport())
        subscription.data_received(b"".join(answers))
        assert subscription.ended.is_set()
        assert "the Redis user default lacks a right" in str(subscription.error)


def test_channels_are_added_and_taken_away() -> None:
    """Each is told when it is heard; the answer to a wish of ours is no loss, one unasked for is."""
    heard = Heard()
    heard.data(confirmed(0), confirmed(1))
    heard.transport.written = b""
    heard.subscription.hear(TOPIC)
    assert heard.transport.written == array(b"SSUBSCRIBE", TOPIC.encode())
    assert heard.added == []
    heard.data(array(b"ssubscribe", TOPIC.encode(), 3), array(b"smessage", TOPIC.encode(), b"a"))
    assert (heard.added, heard.chunks) == ([TOPIC], [[b"a"]])
    heard.subscription.drop(TOPIC)
    assert heard.transport.written.endswith(array(b"SUNSUBSCRIBE", TOPIC.encode()))
    heard.data(array(b"sunsubscribe", TOPIC.encode(), 2))
    assert not heard.subscription.ended.is_set()
    heard.data(array(b"sunsubscribe", TOPIC.encode(), 2))
    assert heard.subscription.reason == REVOKED


def test_a_channel_that_is_wanted_again_before_it_is_left() -> None:
    """The confirmation that counts is the one behind the leaving."""
    heard = Heard()
    heard.data(confirmed(0), confirmed(1))
    for step in (heard.subscription.hear, heard.subscription.drop, heard.subscription.hear):
        step(TOPIC)
    heard.data(array(b"ssubscribe", TOPIC.encode(), 3))
    assert heard.added == []
    heard.data(array(b"sunsubscribe", TOPIC.encode(), 2), array(b"ssubscribe", TOPIC.encode(), 3))
    assert heard.added == [TOPIC]
    assert TOPIC.encode() in heard.subscription.heard_at_s


def test_what_comes_of_a_channel_that_is_being_left() -> None:
    """Leaves nothing behind."""
    heard = Heard()
    heard.data(confirmed(0), confirmed(1))
    heard.subscription.hear(TOPIC)
    heard.data(array(b"ssubscribe", TOPIC.encode(), 3))
    heard.subscription.drop(TOPIC)
    heard.data(array(b"smessage", TOPIC.encode(), b"a"), array(b"sunsubscribe", TOPIC.encode(), 2))
    assert {*heard.subscription.heard_at_s} == {name.encode() for name in CHANNELS}


def test_a_channel_that_is_added_before_all_are_confirmed() -> None:
    """Counts among them, unless it is left before."""
    for left in (False, True):
        heard = Heard()
        heard.subscription.hear(TOPIC)
        heard.data(confirmed(0), confirmed(1))
        assert not heard.subscription.settled.is_set()
        if left:
            heard.subscription.drop(TOPIC)
        else:
            heard.data(array(b"ssubscribe", TOPIC.encode(), 3))
        assert heard.subscription.settled.is_set()
        assert heard.added == []


def test_the_first_reason_stays() -> None:
    """The lost connection that follows is its consequence."""
    heard = Heard()
    heard.subscription.end("probe", OSError("deaf"))
    heard.subscription.connection_lost(None)
    assert heard.subscription.reason == "probe"
    assert heard.subscription.settled.is_set()


def test_every_channel_knows_when_it_was_heard() -> None:
    """The confirmation counts."""
    heard = Heard()
    heard.data(confirmed(0), confirmed(1))
    before = dict(heard.subscription.heard_at_s)
    heard.data(published(b"x", 1))
    after = heard.subscription.heard_at_s
    assert after[CHANNELS[0].encode()] == before[CHANNELS[0].encode()]
    assert after[CHANNELS[1].encode()] > before[CHANNELS[1].encode()]


@given(st.lists(st.binary(max_size=50), max_size=10), st.data())
def test_payloads_survive_any_cut(payloads: list[bytes], data: st.DataObject) -> None:
    """Whatever the network does to the stream, the payloads come whole and in order."""
    heard = Heard()
    stream = confirmed(0) + confirmed(1) + b"".join(map(published, payloads))
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        heard.data(stream[:size])
        stream = stream[size:]
    assert [payload for chunk in heard.chunks for payload in chunk] == payloads
