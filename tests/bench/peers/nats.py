"""NATS core over WebSocket: no Redis, no storage, no route to look up, and a protocol of its own on the socket.

Each user's connection subscribes to a subject of its own, as nats.ws would; what is published to it comes as
`MSG <subject> <sid> <bytes>`, several to a frame when there are several
(https://docs.nats.io/reference/reference-protocols/nats-protocol).
"""

from __future__ import annotations

from tests.bench.dialect import Dialect
from tests.bench.peers.packages import go
from tests.bench.peers.peer import Peer

_CONNECT = 'CONNECT {"verbose":false,"pedantic":false,"protocol":1,"lang":"bench","version":"1"}\r\n'

_CONFIG = """
listen: "127.0.0.1:{port}"
websocket {{ listen: "127.0.0.1:{websocket}", no_tls: true }}
# A producer that is silent while others have their turn is no stale one.
ping_interval: "1h"
"""


class Nats(Peer):
    """nats-server."""

    name = "nats"
    title = "NATS, no Redis"
    with_redis = False
    dialect = Dialect(
        path="/",
        greeting=f"{_CONNECT}SUB user.{{token}} 1\r\nSUB all 2\r\nPING\r\n",
        welcome="PONG",
        ping="PING\r\n",
        pong="PONG\r\n",
        hello=_CONNECT.encode() + b"PING\r\n",
        protocol="nats",
    )

    def command(self) -> list[str]:
        """Return the command line."""
        server = go("nats", "github.com/nats-io/nats-server/v2@latest") / "nats-server"
        config = self.folder / "nats.conf"
        config.write_text(_CONFIG.format(port=self.port + 1, websocket=self.port), encoding="utf-8")
        return [str(server), "-c", str(config)]

    @property
    def publish(self) -> str:
        """Where a producer publishes."""
        return f"127.0.0.1:{self.port + 1}"

    def publication(self, body: str, room: str) -> bytes:
        """Return a PUB."""
        subject = f"user.{room}" if room else "all"
        return f"PUB {subject} {len(body)}\r\n{body}\r\n".encode()
