"""python-socketio on uvicorn, with its Redis manager: JSON on one channel that every server reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from tests.bench.dialect import redis_command
from tests.bench.peers.packages import pip
from tests.bench.peers.peer import Peer
from tests.bench.peers.socketio import ENGINE_IO

PACKAGES: Final = ("python-socketio>=5.14", "redis>=6", "uvicorn[standard]>=0.34")

SERVER: Final = Path(__file__).with_name("servers") / "python_socketio_server.py"


class PythonSocketIO(Peer):
    """One process, on uvloop."""

    name = "python_socketio"
    title = "python-socketio, Redis pub/sub"
    dialect = ENGINE_IO

    def command(self) -> list[str]:
        """Return the command line."""
        assert self.redis is not None
        python = pip("python-socketio", *PACKAGES) / "bin" / "python"
        return [str(python), str(SERVER), str(self.port), self.redis.url]

    def publication(self, body: str, room: str) -> bytes:
        """Return what the manager of another process would publish."""
        message = {"method": "emit", "event": "message", "data": [json.loads(body)], "binary": False, "namespace": "/"}
        message |= {"room": room or None, "skip_sid": None, "callback": None, "host_id": "bench"}
        return redis_command("PUBLISH", "socketio", json.dumps(message, separators=(",", ":")))
