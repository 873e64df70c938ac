"""edge.deafness: when a channel is probed, and when the edge is deaf."""

from __future__ import annotations

from edge.deafness import Ear, Verdict

QUIET_S, TIMEOUT_S = 2.0, 3.0


def proven() -> Ear:
    """Return an ear whose first probe, published at 0.5, came back."""
    ear = Ear(QUIET_S, TIMEOUT_S)
    assert ear.judge(0.0, 0.5) is Verdict.QUIET
    ear.probed(0.5)
    assert ear.judge(0.6, 0.7) is Verdict.HEARING
    return ear


def test_a_new_subscription_is_probed_at_once() -> None:
    """That it was confirmed does not prove that it is heard."""
    proven()


def test_a_busy_channel_is_never_probed() -> None:
    """Whatever comes proves as much as a probe."""
    ear = proven()
    assert all(ear.judge(at, at + QUIET_S - 0.1) is Verdict.HEARING for at in range(1, 20))


def test_a_quiet_channel_is_probed_and_the_probe_awaited() -> None:
    """Until it comes or its time is over."""
    ear = proven()
    assert ear.judge(1.0, 3.0) is Verdict.QUIET
    ear.probed(3.0)
    assert ear.judge(1.0, 5.9) is Verdict.WAITING
    assert ear.judge(3.1, 5.9) is Verdict.QUIET  # came back, and it is quiet again
    assert ear.judge(1.0, 6.0) is Verdict.QUIET


def test_a_probe_that_does_not_come_back_proves_deafness() -> None:
    """After that a probe must come back, not merely a new subscription."""
    ear = proven()
    ear.probed(10.0)
    assert ear.judge(1.0, 13.0) is Verdict.DEAF
    assert ear.judge(13.5, 13.6) is Verdict.QUIET
    ear.probed(13.6)
    assert ear.judge(13.7, 13.8) is Verdict.HEARING


def test_a_forgotten_probe_proves_nothing() -> None:
    """Redis was away: it is published again."""
    ear = proven()
    ear.probed(10.0)
    ear.forget()
    assert ear.judge(1.0, 99.0) is Verdict.QUIET
