"""edge.rivals, in a session: which of a device's stays."""

from __future__ import annotations

import pytest

from edge.actions import (
    Await,
    Challenge,
    Prove,
    Send,
)
from edge.closes import Close
from edge.session import State
from tests.unit.edge.stages import (
    NOW_SEQ,
    SETTINGS,
    at,
    closes,
    come,
    live,
    live_phone,
    registering,
)


def test_a_device_is_challenged_right_behind_its_welcome() -> None:
    """Before anything else is asked for; a session without a device replaces nobody and is not."""
    for query in ({"device": "phone"}, {"device": "phone", "since": "0"}):
        session = registering(**query)
        actions = come(session, NOW_SEQ)
        if session.state is State.RESUMING:
            actions = session.resumed(at(0))
        assert [type(action) for action in actions][:3] == [Await, Send, Challenge]
    assert Challenge() not in come(registering(), 10)


def test_an_answer_proves_a_session_that_is_live() -> None:
    """One that comes too late is of a client that may be elsewhere by now, and is asked for again."""
    assert registering(device="phone").answered(0.0) == ()
    assert live().answered(0.0) == ()
    session = live_phone()
    assert session.answered(SETTINGS.heartbeat_timeout_s + 0.1) == (Challenge(),)
    assert session.answered(SETTINGS.heartbeat_timeout_s) == (Prove("phone"),)


@pytest.mark.parametrize("known_first", [True, False])
def test_of_two_sessions_of_a_device_that_are_proved_the_later_stays(known_first: bool) -> None:
    """Whether this one's time is known before or after it hears of the other's; of one time, the higher id."""
    for rival, told in (((9, "~"), list[Close]()), ((10, ""), []), ((10, "~"), [Close.REPLACED]), ((11, ""), [Close.REPLACED])):
        session = live_phone()
        if known_first:
            actions = session.proved(10) + session.replaced(*rival)
        else:
            actions = session.replaced(*rival) + session.proved(10)
        assert closes(actions) == told


def test_its_own_proof_replaces_nobody() -> None:
    """Nor does any, as long as this session has not been proved itself: it is a matter for its heartbeat then."""
    session = live_phone()
    assert session.replaced(99, "other") == ()
    session = live_phone()
    assert session.proved(10) + session.replaced(10, session.id) == ()
