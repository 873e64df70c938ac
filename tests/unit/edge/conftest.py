"""What several tests of connections begin with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from router.settings import Settings
from tests.unit.edge.desk import Desk


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Yield an admission with the default settings."""
    async with anyio.create_task_group() as tasks:
        yield Desk(tasks, Settings())
        tasks.cancel_scope.cancel()
