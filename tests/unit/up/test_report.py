"""router.up.report: what `up` says when it is ready."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from router.settings import Settings
from router.up.folder import Kept
from router.up.plan import Request, make_plan
from router.up.report import make_report, print_report


def test_it_says_where_everything_is_and_which_process_is_which(tmp_path: Path) -> None:
    """Addresses, and the pid of each child, on lines that are never broken."""
    plan = make_plan(Request(data=tmp_path), Settings(), Kept("key"))
    out = io.StringIO()
    print_report(make_report(plan, "a-token", {"redis": 7, "edge-1": 41, "edge-2": 42}), Console(file=out, width=20))
    lines = [line.strip() for line in out.getvalue().splitlines()]
    assert "page    http://127.0.0.1:8000/" in lines
    assert "pids    redis 7, edge-1 41, edge-2 42" in lines
