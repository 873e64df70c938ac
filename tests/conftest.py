"""What all tests share: the event loop, hypothesis' profiles, and the logs of servers when a test fails."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import DebianRedis, EmbeddedValkey, Process, Store

# A shared machine is slow at times; a test that hangs is ended by whoever runs the suite, not by an example's deadline.
settings.register_profile("default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", settings.get_profile("default"), max_examples=1_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

_LINE_CHARS: Final = 240

_LONG_FIRST: Final = ("chaos", "attacks", "hosts", "e2e", "bench", "integration")
"""Folders whose files take longest, from two minutes to seconds; those of all others are over at once."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the long files where several processes share them out: the last to end would be waited for by all the others.

    Within a folder the order stays random; a run in one process mixes the folders too.
    """
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    folder = item.nodeid.split("/")[1]
    return _LONG_FIRST.index(folder) if folder in _LONG_FIRST else len(_LONG_FIRST)


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Name what fails at once; the summary comes when the last test of thousands is over."""
    terminal: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and config.get_verbosity() == 0:
        config.pluginmanager.register(_FailuresAtOnce(terminal))


class _FailuresAtOnce:
    """Prints a line of each failure as it comes, between the dots: the test, and the last line of what it says."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._terminal = terminal

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take what a test of this process, or of one that runs for it, has come to."""
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            said = "" if crash is None else " - " + crash.message.partition("\n")[0]
            self._terminal.write_line("")  # ends the line of dots
            self._terminal.write_line(f"FAILED {report.nodeid} ({report.when}){said}"[:_LINE_CHARS], red=True)


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run asynchronous tests on the event loop that the services use."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    """Yield the run's own embedded Valkey; a test that stops it starts a server of its own instead."""
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DebianRedis]:
    """Yield the run's own redis-server, where the machine has one."""
    if not DebianRedis.available():
        pytest.skip("no redis-server here")
    with DebianRedis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def store_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield the run's own store; each test takes a database of its own in it."""
    with Store(tmp_path_factory.mktemp("store")) as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the running servers printed, beside the failure."""
    report = yield
    if report.failed:
        for name, process in Process.running.items():
            report.sections.append((f"log of {name}", process.log_tail()))
    return report
