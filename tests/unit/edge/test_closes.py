"""edge.closes: the codes are a contract."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close as CloseFrame

from edge.closes import REASON_MAX_BYTES, Chosen, Close

RECONNECT = {4000, 4001, 4002, 4003, 4004, 4005, 4007}
DO_NOT = {4500, 4501, 4502, 4504, 4505, 4506}


def test_the_codes_are_those_of_the_contract() -> None:
    """The range says whether to reconnect: 4500 to 4999 is final."""
    assert {close.code for close in Close} == RECONNECT | DO_NOT
    assert {close.code for close in Close if 4500 <= close.code <= 4999} == DO_NOT


def test_a_reason_names_the_code_in_words() -> None:
    """And says more where there is more to say."""
    assert Close.REPLACED.reason() == "replaced"
    assert Close.NOT_AUTHENTICATED.reason("expired") == "not authenticated: expired"


@given(st.text(max_size=200), st.sampled_from(Close))
def test_any_reason_fits_a_close_frame(detail: str, close: Close) -> None:
    """It is cut between characters, and a WebSocket library takes it."""
    detail = detail.encode(errors="ignore").decode()
    reason = close.reason(detail)
    assert len(reason.encode()) <= REASON_MAX_BYTES
    assert CloseFrame.parse(CloseFrame(close.code, reason).serialize()).reason == reason


@given(st.text(max_size=200))
def test_words_that_are_chosen_stay_as_they_are(words: str) -> None:
    """But for their length: who chooses them is held to it before."""
    words = words.encode(errors="ignore").decode()
    reason = Chosen(4711, words).reason()
    assert words.startswith(reason)
    assert reason == words or len(words.encode()) > REASON_MAX_BYTES
