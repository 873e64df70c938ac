"""edge.client against an edge that cuts, repeats and closes as the dice fall, and an application that gives up and crashes."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from edge.client import Client, FileCursors
from tests.integration.fake_edge import QUICK, WELCOME, FakeEdge, message, since, tokens

pytestmark = pytest.mark.anyio

MESSAGES: Final = 300
HEAD_AT_FIRST: Final = 10
NEWEST: Final = HEAD_AT_FIRST + MESSAGES
CLOSES: Final = (None, None, 1001, 1011, 4000, 4002, 4003, 4004)


@dataclass
class Dice:
    """An edge with its own device cursor that ends each connection after some messages, in some way.

    Attributes:
        bad_acks: acks beyond what was sent on their connection.
    """

    random: random.Random
    device_cursor: int = HEAD_AT_FIRST
    bad_acks: list[int] = field(default_factory=list)

    async def play(self, edge: FakeEdge, connection: ServerConnection) -> None:
        """Be the edge of one connection."""
        begun = since(edge.connects[-1])
        sent = self.device_cursor if begun is None else begun
        try:
            await connection.send(json.dumps(WELCOME | {"seq": NEWEST}))
            for _ in range(self.random.randrange(1, 30)):
                if sent < NEWEST and self.random.random() < 0.8:
                    sent += 1
                    await connection.send(json.dumps(message(sent)))
                elif sent > (begun or self.device_cursor):
                    await connection.send(json.dumps(message(sent)))
                await self._hear(connection, sent)
            await self._end(connection)
        except ConnectionClosed:
            return

    async def _hear(self, connection: ServerConnection, sent: int) -> None:
        with anyio.move_on_after(self.random.choice([0, 0, 0.003])):
            while True:
                ack: dict[str, Any] = json.loads(await connection.recv())
                self.bad_acks += [ack["seq"]] if ack["seq"] > sent else []
                self.device_cursor = max(self.device_cursor, ack["seq"])

    async def _end(self, connection: ServerConnection) -> None:
        close = self.random.choice(CLOSES)
        if close is None:
            connection.transport.abort()
        else:
            await connection.close(close)


async def _live(client: Client, dice: random.Random, dies_after: int) -> list[int]:
    """Handle messages, with little patience, and return what was handed out when the life is over."""
    had: list[int] = []
    while len(had) < dies_after and (not had or had[-1] < NEWEST):
        with anyio.move_on_after(dice.choice([0.02, 0.2, 5])):
            had.append((await anext(client)).body)
    return had


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("device", [True, False], ids=["device", "file"])
async def test_once_within_a_life_and_none_passed_over(seed: int, device: bool, tmp_path: Path) -> None:
    """Life after life, the first thing that comes is no later than what follows the last one handled."""
    dice = Dice(random.Random(seed))  # noqa: S311 - only dice
    lives: list[list[int]] = []
    kept: dict[str, Any] = {"device": "phone"} if device else {"since": HEAD_AT_FIRST}
    async with FakeEdge(dice.play).running() as edge:
        while not lives or lives[-1][-1] < NEWEST:
            cursors = None if device else FileCursors(tmp_path / "c")
            client = Client([edge.url], tokens("t"), cursors=cursors, pauses=QUICK, ack_every=5, ack_interval_s=0.02, **kept)
            await client.__aenter__()
            lives.append(await _live(client, dice.random, dice.random.randrange(1, 120)))
            await client._drop()  # a crash: the connection goes, nothing is kept or acknowledged
    assert dice.bad_acks == []
    handled = HEAD_AT_FIRST
    for had in lives:
        assert had == list(range(had[0], had[-1] + 1))
        assert had[0] <= handled + 1
        handled = max(handled, had[-1] - 1)  # the last one was in hand
    assert lives[-1][-1] == NEWEST
    assert len(edge.connects) > len(lives)
