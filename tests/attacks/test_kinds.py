"""Under each attack, from one address and from a thousand more, the honest are served and the edge keeps its measure.

One file for all kinds, since they share the stand: it takes longer to make than most attacks take. `scripts/attack` does the
same for longer and at full size.
"""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from tests.attacks.kinds import KINDS
from tests.attacks.report import faults
from tests.attacks.stand import Stand
from tests.attacks.target import MANY, ONE, NotLoopback, Target

pytestmark = pytest.mark.anyio

SECONDS = 2.0
SCALE = 0.2

# Short, so that what is slow meets its limit within the test.
SETTINGS = {"connect_timeout_s": 1.0, "close_timeout_s": 1.0}


@pytest.fixture(scope="module")
def stand(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """Yield the stand that all attacks of this file share, but for those on the service that an edge asks."""
    with Stand(tmp_path_factory.mktemp("attacks"), settings=SETTINGS, callback=request.param) as made:
        yield made


CASES = [(attack.callback, name) for name, attack in KINDS.items()]


@pytest.mark.parametrize(("stand", "name"), CASES, indirect=["stand"], ids=KINDS, scope="module")
async def test_kind(stand: Stand, name: str) -> None:
    """No honest client is disconnected or misses a message; memory, close codes, metrics and log are as they are said to be."""
    attack = KINDS[name]
    async with stand.target(ONE, SCALE) as one, stand.target(MANY, SCALE) as many:
        quiet = await stand.quiet(0.5, attack, (one, many))
        outcome = await stand.undergo(attack, (one, many), SECONDS, quiet)
    assert list(faults(outcome, attack)) == [], outcome
    assert outcome.seen["connects"] > 0
    assert outcome.served.sent > 0


def test_no_other_machine() -> None:
    """There is no attack on a host that is not this one."""
    with pytest.raises(NotLoopback, match=r"192\.0\.2\.1 is not this machine"):
        Target("192.0.2.1", 80, ["token"], Mock())
