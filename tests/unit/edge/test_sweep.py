"""edge.sweep: who is looked at, and who is not any more."""

from __future__ import annotations

from typing import cast

import anyio
import pytest

from edge.connection import Connection
from edge.sweep import sweep
from router.settings import Settings

pytestmark = pytest.mark.anyio


class Looked:
    """A connection that only counts the looks."""

    def __init__(self) -> None:
        self.looks = 0

    def sweep(self, _now_s: float, _pulse: object) -> None:
        """Count it."""
        self.looks += 1


async def test_who_goes_between_two_slices_is_not_looked_at() -> None:
    """The event loop has its turn there, and with it whatever ends a connection."""
    everybody = [Looked() for _ in range(1_200)]
    present = set(everybody)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sweep, cast("set[Connection]", present), Settings(heartbeat_s=0.01))
        with anyio.fail_after(60):
            while not any(connection.looks for connection in everybody):
                await anyio.lowlevel.checkpoint()
        gone = {connection for connection in everybody if not connection.looks}
        assert gone
        present -= gone
        with anyio.fail_after(60):
            while any(connection.looks < 2 for connection in present):
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert not any(connection.looks for connection in gone)
