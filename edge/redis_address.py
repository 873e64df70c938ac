"""Where Redis is, read from the same address that redis-py takes, for the subscriber that speaks to Redis by itself."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.asyncio.connection import SSLConnection, parse_url

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


def read_address(url: str, name: str) -> RedisAddress:
    """Return the address in a redis://, rediss:// or unix:// URL, with its ssl_* parameters.

    Args:
        url: as in the setting `redis_url`.
        name: how the connection is to appear in CLIENT LIST.
    """
    parts: Mapping[str, Any] = parse_url(url)
    secure = parts.get("connection_class") is SSLConnection
    return RedisAddress(
        host=parts.get("host", "localhost"),
        port=parts.get("port", _DEFAULT_PORT),
        path=parts.get("path"),
        tls=_tls(parts) if secure else None,
        greeting=(*_auth(parts), *_select(parts), ("CLIENT", "SETNAME", name)),
    )


def _auth(parts: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    if "password" not in parts:
        return ()
    user = (parts["username"],) if "username" in parts else ()
    return (("AUTH", *user, parts["password"]),)


def _select(parts: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    return (("SELECT", str(parts["db"])),) if parts.get("db") else ()


def _tls(parts: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=parts.get("ssl_ca_certs"), capath=parts.get("ssl_ca_path"))
    if "ssl_certfile" in parts:
        context.load_cert_chain(parts["ssl_certfile"], parts.get("ssl_keyfile"), parts.get("ssl_password"))
    if str(parts.get("ssl_check_hostname", True)).lower() in {"0", "false", "no"}:
        context.check_hostname = False
    if parts.get("ssl_cert_reqs") in {"none", "optional"}:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE if parts["ssl_cert_reqs"] == "none" else ssl.CERT_OPTIONAL
    return context
