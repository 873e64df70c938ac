"""edge.forwarded: which balancers are believed, and whose connection it is by what they say."""

from __future__ import annotations

import pytest

from edge.forwarded import Proxies

PEER = "10.0.3.1"


def _client(*headers: str, proxies: tuple[str, ...] = ("10.0.3.0/28", "2001:db8:ffff::/48")) -> str:
    return Proxies(proxies).client_of(PEER, headers)


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        (("203.0.113.7",), "203.0.113.7"),
        (("198.51.100.1, 203.0.113.7",), "203.0.113.7"),
        (("198.51.100.1", "203.0.113.7"), "203.0.113.7"),
        (("198.51.100.1,203.0.113.7,10.0.3.2 ,\t2001:db8:ffff::9",), "203.0.113.7"),
        (("2001:db8::7",), "2001:db8::7"),
        (("::ffff:203.0.113.7",), "203.0.113.7"),
        (("203.0.113.7:49152",), "203.0.113.7"),
        (("[2001:db8::7]:49152",), "2001:db8::7"),
        (("[2001:db8::7]",), "2001:db8::7"),
    ],
)
def test_the_rightmost_that_is_not_trusted(headers: tuple[str, ...], client: str) -> None:
    """However many headers there are, in either family, with a port or without; what is further left counts for nothing."""
    assert _client(*headers) == client


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        ((), PEER),
        (("",), PEER),
        (("unknown",), PEER),
        (("203.0.113.7, unknown",), PEER),
        (("203.0.113.7,",), PEER),
        (("203.0.113.7, 300.1.1.1, 10.0.3.2",), "10.0.3.2"),
        (("10.0.3.9, 10.0.3.2",), "10.0.3.9"),
        (("203.0.113.7 10.0.3.2",), PEER),
        (("\u0661\u0662.0.0.1",), PEER),
    ],
)
def test_where_none_is_told(headers: tuple[str, ...], client: str) -> None:
    """It is the last balancer's that can be made out: one that writes nothing that can be read stands for itself."""
    assert _client(*headers) == client


@pytest.mark.parametrize("address", ["10.0.3.1", "::ffff:10.0.3.1", "2001:db8:ffff:1::1", "192.0.2.1"])
def test_who_is_trusted(address: str) -> None:
    """Addresses and networks of both families, and IPv4 within IPv6 as what it is."""
    assert Proxies(["10.0.3.0/28", "2001:db8:ffff::/48", "192.0.2.1"]).trust(address)


@pytest.mark.parametrize("address", ["10.0.3.16", "192.0.2.2", "2001:db8::1", "", "/run/edge.sock", "localhost"])
def test_who_is_not_trusted(address: str) -> None:
    """Nobody else; with none set, nobody at all."""
    assert not Proxies(["10.0.3.0/28", "2001:db8:ffff::/48", "192.0.2.1"]).trust(address)
    assert not Proxies([]).trust("10.0.3.1")
