"""Edges behind HAProxy with the configuration that is shipped: all of them are restarted, and nobody misses anything."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.balancers import HAPROXY
from tests.rolling.restart import per_s, roll

CONNECTIONS: Final = 2_000
EDGES: Final = 2
DRAIN_S: Final = 5.0


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
def test_all_edges_restart_one_after_another_under_traffic(tmp_path: Path) -> None:
    """Two thousand clients get each message once and in order; they leave over the drain window, and return likewise."""
    rolled = roll(tmp_path, connections=CONNECTIONS, edges=EDGES, drain_s=DRAIN_S, rate_per_s=300.0)
    heard = rolled.heard
    assert heard.sent > 300
    assert (heard.missed, heard.amiss, heard.turned_away, heard.away) == (0, 0, 0, 0)
    first, last = rolled.restarts
    assert len(first.returns) == pytest.approx(CONNECTIONS / EDGES, rel=0.1)  # as shared out by the balancer
    assert len(last.returns) == pytest.approx(CONNECTIONS, rel=0.1)  # the other was empty
    for restart in rolled.restarts:
        left_s = sorted(found.left_s - restart.told_s for found in restart.returns)
        assert DRAIN_S * 0.25 < left_s[len(left_s) // 2] < DRAIN_S * 0.9
        assert left_s[-1] < DRAIN_S * 3  # on a busy machine some are late
        back = per_s([found.back_s for found in restart.returns], restart.told_s, restart.back_s, 1.0)
        assert max(back) < len(restart.returns) * 0.5, back  # half of them in one second would be a herd
