"""What of redis-py's inside ours leans on: a version of it that has not got something is told by name here."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline, PubSub
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, DefaultParser, SSLConnection
from redis.commands.core import AsyncScript
from redis.exceptions import MovedError, NoScriptError

PARTS: list[tuple[Any, str]] = [
    # router/redis_client.py and router/replies.py: a connection that somebody keeps for himself.
    (AbstractConnection, "connect disconnect is_connected pack_command read_response send_packed_command"),
    (SSLConnection, "_connection_arguments"),
    (Connection(), "_writer driver_info host port socket_timeout username"),
    (DefaultParser, "parse_error"),
    # router/primary_pool.py: a pool that lends connections of others.
    (ConnectionPool, "disconnect get_connection get_encoder release"),
    (ConnectionPool(), "connection_class connection_kwargs max_connections"),
    # router/cluster_redis.py and router/timed_redis.py: a client on it.
    (Redis, "aclose execute_command pipeline pubsub register_script"),
    (Redis(), "auto_close_connection_pool connection_pool response_callbacks"),
    (Pipeline, "execute"),
    (Redis().pipeline(), "command_stack is_transaction"),
    (AsyncScript(Redis(), ""), "registered_client"),
    (MovedError("1 host:2"), "host port slot_id"),
    # router/members.py: sharded channels, which redis-py has for asyncio from 8.0 on.
    (PubSub, "get_message ssubscribe sunsubscribe"),
]


@pytest.mark.parametrize(("owner", "name"), [(owner, name) for owner, names in PARTS for name in names.split()])
def test_part_is_there(owner: Any, name: str) -> None:  # noqa: ANN401 - a class or an object of the driver's
    """Under this name."""
    assert hasattr(owner, name), f"this redis-py has no {name}: look at what leans on it in router/"


@pytest.mark.parametrize(
    ("method", "names"),
    [
        (AbstractConnection.send_packed_command, {"check_health"}),
        (AbstractConnection.disconnect, {"nowait"}),
        (ConnectionPool.disconnect, {"inuse_connections"}),
        (Redis.aclose, {"close_connection_pool"}),
        (Pipeline.execute, {"raise_on_error"}),
    ],
)
def test_argument_is_there(method: Any, names: set[str]) -> None:  # noqa: ANN401 - a method of the driver's
    """Under this name."""
    assert names <= {*inspect.signature(method).parameters}


def test_errors_are_named() -> None:
    """A reply that is an error becomes the driver's exception for it."""
    parse: Any = DefaultParser.parse_error
    assert isinstance(parse("NOSCRIPT No matching script."), NoScriptError)
    assert isinstance(parse("MOVED 1 host:2"), MovedError)
