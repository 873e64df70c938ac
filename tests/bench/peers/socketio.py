"""Socket.IO 4 on Node.js, with the adapters that are documented for several servers behind one Redis.

A producer that is no Socket.IO server publishes as `@socket.io/redis-emitter` does (msgpack on the room's channel), or appends
to the stream that the Streams adapter reads, in the adapter's own form.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import ClassVar, Final

import msgspec

from tests.bench.dialect import Dialect, redis_command
from tests.bench.peers.packages import npm, program
from tests.bench.peers.peer import Peer

PACKAGES: Final = (
    *("socket.io@4", "ws@8", "redis@5"),
    *("@socket.io/redis-adapter@8", "@socket.io/redis-emitter@5", "@socket.io/redis-streams-adapter@0.3"),
)

UWS: Final = "uWebSockets.js"
UWS_PACKAGE: Final = f"{UWS}@github:uNetworking/uWebSockets.js#v20.52.0"
"""Its authors have it on GitHub alone; what npm has under like names are other people's builds."""

BUN_PACKAGES: Final = ("@socket.io/bun-engine@0.1", "@oven/bun-linux-x64@1")
"""Bun's WebSockets are µWebSockets, in a binary that npm has."""

SERVER: Final = Path(__file__).with_name("servers") / "socketio.mjs"

ENGINE_IO: Final = Dialect(
    path="/socket.io/?EIO=4&transport=websocket&user={token}", greeting="40", welcome="40", ping="2", pong="3"
)
"""Engine.IO 4: packets are frames that begin with a digit (https://github.com/socketio/engine.io-protocol)."""

_EVENT, _BROADCAST = 2, 3
_STREAM_MAX: Final = 10_000


class SocketIO(Peer):
    """Redis pub/sub on ws."""

    name = "socketio"
    title = "Socket.IO, Redis pub/sub"
    dialect = ENGINE_IO
    adapter: ClassVar[str] = "pubsub"

    def command(self) -> list[str]:
        """Return the command line."""
        return self._on("ws", npm("socketio", *PACKAGES))

    def _on(self, engine: str, folder: Path, runtime: str | None = None) -> list[str]:
        assert self.redis is not None
        server = Path(shutil.copy(SERVER, folder))  # where packages are looked for
        return [runtime or program("node"), str(server), str(self.port), self.redis.url, self.adapter, engine]

    def publication(self, body: str, room: str) -> bytes:
        """Return what the emitter would publish."""
        packet = {"type": _EVENT, "data": ["message", json.loads(body)], "nsp": "/"}
        options = {"rooms": [room] if room else [], "flags": {}, "except": []}
        message = msgspec.msgpack.encode(["emitter", packet, options])
        return redis_command("PUBLISH", f"socket.io#/#{room}#" if room else "socket.io#/#", message)


class SocketIOStreams(SocketIO):
    """Redis Streams on ws."""

    name = "socketio_streams"
    title = "Socket.IO, Redis Streams"
    adapter = "streams"

    def publication(self, body: str, room: str) -> bytes:
        """Return what the adapter of another server would append."""
        packet = {"type": _EVENT, "data": ["message", json.loads(body)], "nsp": "/"}
        options = {"rooms": [room] if room else [], "except": [], "flags": {}}
        data = json.dumps({"packet": packet, "opts": options}, separators=(",", ":"))
        fields = ("uid", "emitter", "nsp", "/", "type", str(_BROADCAST), "data", data)
        return redis_command("XADD", "socket.io", "MAXLEN", "~", str(_STREAM_MAX), "*", *fields)


class SocketIOOnUws(SocketIO):
    """Redis pub/sub on µWebSockets."""

    name = "socketio_uws"
    title = "Socket.IO on µWebSockets, Redis pub/sub"

    def command(self) -> list[str]:
        """Return the command line."""
        return self._on(UWS, npm("socketio-uws", *PACKAGES, UWS_PACKAGE))


class SocketIOOnBun(SocketIO):
    """Redis pub/sub on Bun."""

    name = "socketio_bun"
    title = "Socket.IO on Bun (µWebSockets), Redis pub/sub"

    def command(self) -> list[str]:
        """Return the command line."""
        folder = npm("socketio-bun", *PACKAGES, *BUN_PACKAGES)
        return self._on("bun", folder, str(folder / "node_modules" / "@oven" / "bun-linux-x64" / "bin" / "bun"))
