"""A python-socketio server as its manual has it: each connection enters the room of its user; the Redis manager does the rest.

python python_socketio_server.py PORT REDIS_URL
"""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import parse_qs

import socketio  # type: ignore[import-not-found] # in an environment of its own
import uvicorn

port, redis_url = sys.argv[1:]
server = socketio.AsyncServer(
    async_mode="asgi", transports=["websocket"], client_manager=socketio.AsyncRedisManager(redis_url), cors_allowed_origins="*"
)


@server.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, Any]) -> None:
    """Seat a connection in its user's room."""
    await server.enter_room(sid, parse_qs(environ["QUERY_STRING"])["user"][0])


uvicorn.run(socketio.ASGIApp(server), host="127.0.0.1", port=int(port), log_level="warning")
