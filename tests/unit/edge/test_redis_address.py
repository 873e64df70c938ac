"""edge.redis_address: the address as redis-py reads it."""

from __future__ import annotations

import pytest

from edge.redis_address import read_address

NAME = ("CLIENT", "SETNAME", "me")


@pytest.mark.parametrize(
    ("url", "where", "greeting"),
    [
        ("redis://h:7/0", ("h", 7, None), (NAME,)),
        ("redis://h", ("h", 6379, None), (NAME,)),
        ("redis://:p%40w@h/3", ("h", 6379, None), (("AUTH", "p@w"), ("SELECT", "3"), NAME)),
        ("redis://u:pw@h", ("h", 6379, None), (("AUTH", "u", "pw"), NAME)),
        ("unix:///run/redis.sock?db=2", ("localhost", 6379, "/run/redis.sock"), (("SELECT", "2"), NAME)),
    ],
)
def test_where_it_is_and_how_to_greet(
    url: str, where: tuple[str, int, str | None], greeting: tuple[tuple[str, ...], ...]
) -> None:
    """Password, user and database are commands to send first; the name comes last."""
    address = read_address(url, "me")
    assert (address.host, address.port, address.path) == where
    assert address.greeting == greeting
    assert address.tls is None
