"""router.redis_client: what is said to Redis is what the driver would say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Connection
from redis.exceptions import DataError

from router.redis_client import open_redis
from router.settings import Settings

ARGUMENTS = st.one_of(st.text(st.characters(exclude_categories=["Cs"])), st.binary(), st.integers(), st.floats(allow_nan=False))


def ours() -> Connection:
    """Return a connection as all services have it, not connected."""
    connection: Connection = open_redis(Settings()).connection_pool.make_connection()  # type: ignore[no-untyped-call]  # the driver's
    return connection


@given(st.sampled_from(["GET", "CONFIG GET", b"GET", b"CONFIG GET"]), st.lists(ARGUMENTS, max_size=20))
def test_a_command_is_packed_as_the_driver_packs_it(name: str | bytes, arguments: list[str | bytes | int | float]) -> None:
    """Whatever it is made of."""
    assert b"".join(ours().pack_command(name, *arguments)) == b"".join(Connection().pack_command(name, *arguments))


@pytest.mark.parametrize("argument", [None, True, [1], {}])
def test_what_the_driver_refuses_is_refused(argument: Any) -> None:  # noqa: ANN401 - any at all
    """In its own words."""
    with pytest.raises(DataError, match="Invalid input of type"):
        ours().pack_command("SET", "key", argument)


def test_a_lone_surrogate_is_refused() -> None:
    """It has no bytes."""
    with pytest.raises(UnicodeEncodeError):
        ours().pack_command("SET", "key", "\ud800")
