"""edge.gate: how many may be here, and how fast they may come."""

from __future__ import annotations

import pytest

from edge.closes import Close
from edge.gate import Gate, Refusal, address_of
from router.settings import Settings


def _gate(files_max: int = 1_000, **limits: int) -> Gate:
    return Gate(Settings.model_validate(limits), files_max, 0.0)


def _enter(gate: Gate, address: str, now_s: float) -> Refusal | None:
    refusal, other = gate.enter(), gate.admit(address, now_s)
    return refusal or other


def _closes(gate: Gate, *addresses: str, now_s: float = 0.0) -> list[Close | None]:
    refusals = [_enter(gate, address, now_s) for address in addresses]
    return [None if refusal is None else refusal.close for refusal in refusals]


@pytest.mark.parametrize("gate", [_gate(connections_max=2), _gate(files_max=2), _gate(files_max=2, connections_max=5)])
def test_an_edge_has_so_many(gate: Gate) -> None:
    """As many as are set, and never more than files may be open; who leaves makes room."""
    assert _closes(gate, "a", "b", "c") == [None, None, Close.OVERLOADED]
    for address in "abc":
        gate.leave(address)
    assert _closes(gate, "d") == [None]


def test_an_address_has_so_many() -> None:
    """Others are not touched, and who was refused is counted until it is gone."""
    gate = _gate(connections_address_max=2)
    assert _closes(gate, "a", "a", "a", "b") == [None, None, Close.TOO_MANY_SESSIONS, None]
    gate.leave("a")
    assert _closes(gate, "a") == [Close.TOO_MANY_SESSIONS]
    for _ in range(3):
        gate.leave("a")
    assert _closes(gate, "a", "a", "a") == [None, None, Close.TOO_MANY_SESSIONS]


def test_they_come_so_fast() -> None:
    """Two seconds' worth at once, and then as time goes on."""
    gate = _gate(handshakes_s_max=2)
    assert _closes(gate, *"abcde") == [None] * 4 + [Close.OVERLOADED]
    assert _closes(gate, *"abc", now_s=1.0) == [None, None, Close.OVERLOADED]


def test_an_address_comes_so_fast() -> None:
    """Its pace costs the others nothing."""
    gate = _gate(handshakes_address_s_max=1, handshakes_s_max=2)
    assert _closes(gate, *"aaaabc") == [None, None, Close.TOO_FAST, Close.TOO_FAST, None, None]


def test_addresses_that_are_gone_take_no_room() -> None:
    """However many have been here; of paces the latest are kept."""
    gate = _gate(connections_address_max=1, handshakes_address_s_max=1)
    for number in range(12_000):
        _enter(gate, f"address-{number}", 0.0)
        gate.leave(f"address-{number}")
    assert not gate._by_address
    assert len(gate._paces) == 10_000


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
    ],
)
def test_address(host: str, address: str) -> None:
    """Of IPv6 it is the network that counts; of a connection that is lost already there is none."""
    assert address_of(host) == address


def test_an_address_that_is_not_known_counts_for_nobody() -> None:
    """Who has entered counts for the edge; who leaves before the balancer has said whose it is takes nobody's place away."""
    gate = _gate(connections_address_max=1, connections_max=2)
    assert gate.enter() is gate.enter() is None
    assert gate.enter() is not None
    assert [gate.admit("", 0.0) for _ in range(2)] == [None, None]
    for _ in range(3):
        gate.leave("")
    assert _closes(gate, "a", "a") == [None, Close.TOO_MANY_SESSIONS]
