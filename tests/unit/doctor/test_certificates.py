"""router.doctor.certificates: told in time, and told which."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio
import pytest

from router.doctor.certificates import Seen, addresses, examine, judge, judge_files
from router.doctor.findings import Severity
from router.http.server import serve_http
from router.ops import Health, ops_app
from router.settings import Settings
from router.tls.certificate import Certificate
from tests.certificates import Authority
from tests.servers import free_ports

NOW = datetime(2026, 11, 23, tzinfo=UTC)


@pytest.mark.parametrize(
    ("days", "severity", "said"),
    [
        (90, Severity.OK, "is good until 2027-02-21"),
        (14, Severity.OK, "is good until"),
        (13, Severity.WARNING, "is over on 2026-12-06, in 13 days"),
        (0, Severity.ERROR, "was over on 2026-11-23"),
        (-1, Severity.ERROR, "nobody who looks gets in"),
    ],
)
def test_end_is_told_two_weeks_before(days: int, severity: Severity, said: str) -> None:
    """Which is when whatever renews it has failed for a while."""
    (finding,) = judge([Seen("edge.pem", NOW + timedelta(days=days))], NOW)
    assert finding.severity is severity
    assert said in finding.seen
    assert "edge.pem" in finding.seen
    assert bool(finding.remedy) is (severity is not Severity.OK)


def test_files_are_tried_as_a_service_would(tmp_path: Path) -> None:
    """One that cannot be used, one that is not good yet, and a key that others may read."""
    authority, now = Authority(tmp_path), datetime.now(UTC)
    pair = authority.issue("h", expires_at=now + timedelta(days=60))
    pair.key.chmod(0o600)
    assert [found.severity for found in judge_files("edge", *pair, now)] == [Severity.OK]
    pair.key.chmod(0o644)
    open_to_others = judge_files("edge", *pair, now)[1]
    assert open_to_others.severity is Severity.WARNING
    assert "mode 0644" in open_to_others.seen
    (early,) = judge_files("edge", *pair, now.replace(year=1999))
    assert (early.severity, "begins on" in early.seen) == (Severity.ERROR, True)
    pair.key.write_text("")
    (unfit,) = judge_files("edge", *pair, now)
    assert (unfit.severity, "edge_tls_cert_file" in unfit.seen) == (Severity.ERROR, True)


def test_addresses_over_tls_are_looked_at() -> None:
    """Each once, and no plain one."""
    urls = ("wss://a/v1/connect", "ws://b/v1/connect", "wss://a/v1/connect")
    settings = Settings(auth_url="https://auth:8001", edge_urls=urls, edge_address="wss://c")
    assert addresses(settings) == ["https://auth:8001", "wss://c", "wss://a/v1/connect"]


@pytest.mark.anyio
async def test_what_is_shown_counts_beside_the_files(tmp_path: Path) -> None:
    """A balancer, or a process that could not read the new file, shows an older one; whoever shows none is passed over."""
    authority, port, stop = Authority(tmp_path), free_ports(), anyio.Event()
    end = datetime.now(UTC) + timedelta(days=3, hours=1)
    pair = authority.issue("localhost", expires_at=end)
    certificate = Certificate("http", str(pair.cert), str(pair.key), 60)
    settings = Settings(auth_url=f"https://localhost:{port}", edge_urls=("wss://127.0.0.1:1",))
    async with anyio.create_task_group() as tasks:
        await tasks.start(partial(serve_http, ops_app(Health()), "127.0.0.1", port, stop, certificate=certificate))
        (found,) = await examine(settings)
        stop.set()
    assert found.severity is Severity.WARNING
    assert f"https://localhost:{port} is over on" in found.seen
    (plain,) = await examine(Settings())
    assert plain.severity is Severity.OK
