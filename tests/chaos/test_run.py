"""Two minutes of chaos with a fixed seed: nothing is lost, doubled or reordered, and no process dies by itself."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.chaos.run import Wishes, data_home, run
from tests.chaos.schedule import choose_kinds

pytestmark = pytest.mark.anyio

SEED = 1
MINUTES = 2.0
FAULTS = "-failover"
"""On the embedded Valkey, where nothing that was appended may be lost either; a failover may lose what only Redis had."""


@pytest.mark.timeout(600)
async def test_two_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    """Every kind of fault but a failover strikes; what was appended is accepted, and reaches every device once and in order."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(line)  # noqa: T201 - a test of two minutes that says nothing looks like one that hangs

    with tempfile.TemporaryDirectory(prefix="pushway-chaos-", dir=data_home()) as folder:
        outcome = await run(Wishes(SEED, MINUTES, choose_kinds(FAULTS)), Path(folder), say)
    assert outcome.verdict.findings[:10] == ()
    assert outcome.deaths == ()
    assert outcome.not_ready == ()
    assert outcome.verdict.figures.deliveries > outcome.verdict.figures.accepted > 0
