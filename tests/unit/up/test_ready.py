"""router.up.ready: which ports could be had instead of those that are taken."""

from __future__ import annotations

import socket

import pytest

from router.errors import SetupError
from router.up.embedded import HOST
from router.up.plan import Port
from router.up.ready import check_ports, free_flags

_PORTS = (Port(8000, "API", "--port-base"), Port(8010, "ops", "--port-base"), Port(8390, "Redis", "--redis-port"))


def test_ports_of_a_flag_move_together_to_where_all_are_free() -> None:
    """8100 is passed over because of 8110, and a flag that is asked for twice is answered once."""
    flags = free_flags(_PORTS, ["--port-base", "--port-base"], lambda port: port != 8110)
    assert flags == ["--port-base 8200"]


def test_what_is_named_is_free_together() -> None:
    """No flag is sent to a port that another one has, or was sent to."""
    ports = (Port(8000, "API", "--port-base"), Port(7900, "Redis", "--redis-port"), Port(8100, "MongoDB", "--mongo-port"))
    flags = free_flags(ports, ["--port-base", "--redis-port"], lambda _: True)
    assert flags == ["--port-base 8200", "--redis-port 8300"]


def test_where_nothing_is_free_the_flag_alone_is_named() -> None:
    """The person may know better."""
    assert free_flags(_PORTS, ["--redis-port"], lambda _: False) == ["--redis-port"]


def test_all_ports_that_are_taken_are_named_at_once() -> None:
    """With what each is for."""
    with socket.create_server((HOST, 0)) as one, socket.create_server((HOST, 0)) as two:
        first, second = one.getsockname()[1], two.getsockname()[1]
        ports = [Port(first, "API", "--port-base"), Port(second, "Redis", "--redis-port")]
        with pytest.raises(
            SetupError, match=rf"ports {first} \(API\), {second} \(Redis\) are taken; pass --port-base .*--redis"
        ):
            check_ports(ports)
