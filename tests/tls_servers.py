"""Servers that speak TLS and nothing else: the machine's redis-server, and the embedded store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pymongo
import redis

from tests.certificates import Authority, Pair
from tests.servers import DebianRedis, Store


class TlsRedis(DebianRedis):
    """The machine's redis-server behind a certificate. `url` names localhost.

    Args:
        folder: for its data.
        authority: what signs its certificate.
        names: whom the certificate is for.
    """

    def __init__(self, folder: Path, authority: Authority, *names: str) -> None:
        super().__init__(folder)
        self._authority = authority
        pair = authority.issue(*(names or ("localhost",)), file="redis")
        self.options = ("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no", *_files(pair))

    @property
    def url(self) -> str:
        """How a driver reaches it."""
        return f"rediss://localhost:{self.port}/0"

    def client(self) -> redis.Redis:
        """Return a blocking client that looks at no name; close it, or use it in a `with`."""
        trusting: dict[str, Any] = {"ssl_ca_certs": str(self._authority.file), "ssl_check_hostname": False}
        return redis.Redis.from_url(self.url, protocol=2, socket_timeout=1.0, **trusting)

    def answers(self) -> bool:
        """Tell whether it serves commands now."""
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False


class TlsStore(Store):
    """The embedded store behind a certificate. `url` names localhost.

    Args:
        folder: for its data.
        authority: what signs its certificate.
        names: whom the certificate is for.
    """

    def __init__(self, folder: Path, authority: Authority, *names: str) -> None:
        super().__init__(folder)
        self._authority = authority
        self.options = _files(authority.issue(*(names or ("localhost",)), file="store"))

    @property
    def url(self) -> str:
        """How a driver reaches it."""
        return f"mongodb://localhost:{self.port}/?directConnection=true&tls=true"

    def client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """Return a blocking client that looks at no name; close it, or use it in a `with`."""
        trusting: dict[str, Any] = {"tlsCAFile": str(self._authority.file), "tlsAllowInvalidHostnames": True}
        return pymongo.MongoClient(self.url, serverSelectionTimeoutMS=1_000, **trusting)

    def answers(self) -> bool:
        """Tell whether it serves commands now."""
        with self.client() as client:
            try:
                return bool(client.admin.command("ping"))
            except pymongo.errors.PyMongoError:
                return False


def _files(pair: Pair) -> tuple[str, ...]:
    return ("--tls-cert-file", str(pair.cert), "--tls-key-file", str(pair.key))
