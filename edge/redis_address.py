"""Where Redis is, read from the same address that redis-py takes, for the subscriber that speaks to Redis by itself."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio.connection import parse_url

from router.redis_url import Address

_DEFAULT_PORT = 6379


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server and how to introduce oneself.

    Attributes:
        path: of a Unix socket; None for TCP.
        tls: the context, for rediss.
        greeting: commands to send first, in order.
    """

    host: str
    port: int
    path: str | None
    tls: ssl.SSLContext | None
    greeting: tuple[tuple[str, ...], ...]

    def at(self, place: Address) -> RedisAddress:
        """Return another server to be introduced to in the same way."""
        return replace(self, host=place.host, port=place.port)


def read_address(url: str, name: str, tls: ssl.SSLContext | None = None) -> RedisAddress:
    """Return the address in a redis://, rediss:// or unix:// URL.

    Args:
        url: as in the setting `redis_url`.
        name: how the connection is to appear in CLIENT LIST.
        tls: whom to trust, for rediss; see `router.tls.trust`.
    """
    parts: Mapping[str, Any] = parse_url(url)
    return RedisAddress(
        host=parts.get("host", "localhost"),
        port=parts.get("port", _DEFAULT_PORT),
        path=parts.get("path"),
        tls=tls,
        greeting=(*_auth(parts), *_select(parts), ("CLIENT", "SETNAME", name)),
    )


def _auth(parts: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    if "password" not in parts:
        return ()
    user = (parts["username"],) if "username" in parts else ()
    return (("AUTH", *user, parts["password"]),)


def _select(parts: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    return (("SELECT", str(parts["db"])),) if parts.get("db") else ()
