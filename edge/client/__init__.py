"""The Python client: one user's messages as they come, over whatever happens to the connections in between.

    async with Client(["wss://push.example.com/v1/connect"], get_token, cursors=FileCursors("cursors.json")) as client:
        async for message in client:
            print(message.to, message.body)

Each message comes exactly once to the application within the life of a client, and at least once across a crash:
docs/clients.md says what that means. The package stands alone: nothing of the services is imported here.

    client.py    the iteration: which connection, which frame, which pause
    ends.py      how a connection ended, and what follows
    tokens.py    asking for a token
    link.py      one connection, and whether the other side is still there
    frames.py    what is sent and what comes, as types
    topics.py    which topics are wanted, and asked for
    progress.py  what has been handled, and what of that is to be kept and acknowledged
    cursors.py   where it is kept
    pauses.py    how long to wait between tries
"""

from edge.client.client import Client
from edge.client.cursors import CursorsDamaged, CursorStore, FileCursors, MemoryCursors
from edge.client.ends import NotWelcome
from edge.client.errors import ClientError
from edge.client.frames import Message
from edge.client.link import SUBPROTOCOL
from edge.client.pauses import Pauses
from edge.client.progress import CursorsOfAnother
from edge.client.statuses import (
    CaughtUp,
    Joined,
    Left,
    Lost,
    Members,
    Noticed,
    NoToken,
    Parted,
    Refused,
    Status,
    Subscribed,
    Unsubscribed,
    Welcomed,
)
from edge.client.tokens import TokenSource

__all__ = [
    "SUBPROTOCOL",
    "CaughtUp",
    "Client",
    "ClientError",
    "CursorStore",
    "CursorsDamaged",
    "CursorsOfAnother",
    "FileCursors",
    "Joined",
    "Left",
    "Lost",
    "Members",
    "MemoryCursors",
    "Message",
    "NoToken",
    "NotWelcome",
    "Noticed",
    "Parted",
    "Pauses",
    "Refused",
    "Status",
    "Subscribed",
    "TokenSource",
    "Unsubscribed",
    "Welcomed",
]
