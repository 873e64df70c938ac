"""An edge a module, which all its hostile clients share: what one of them breaks, the next one notices."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.edges import Edge, running_edge
from tests.servers import EmbeddedValkey


@pytest.fixture(scope="module")
async def edge(valkey_server: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Edge]:
    """Yield an edge with a limit of frames small enough to reach."""
    folder = tmp_path_factory.mktemp("edge")
    limits = {"frame_max_bytes": 1_000, "close_timeout_s": 5.0, "sessions_user_max": 200}
    async with running_edge(valkey_server.url, folder, **limits) as running:
        yield running
