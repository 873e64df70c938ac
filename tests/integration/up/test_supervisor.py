"""The supervisor with small stand-ins for the services."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import psutil
import pytest

from router.errors import SetupError
from router.settings import Settings
from router.up import supervisor as module
from router.up.plan import Plan, Spec
from router.up.supervisor import ChildFailed, Supervisor
from tests.servers import free_ports

pytestmark = pytest.mark.anyio

_STAND_IN = """
import http.server, signal, sys

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

def end(*_):
    open("ends", "a").write(sys.argv[1] + "\\n")
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[2])), Ready).serve_forever()
"""


async def _unprepared(_plan: Plan) -> None:
    """Stand in for what needs real servers."""


@pytest.fixture(autouse=True)
def _without_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "prepare", _unprepared)


@pytest.fixture(autouse=True)
def _nothing_is_left_running() -> Iterator[None]:
    """However a test ends its plan, its processes have ended by then."""
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


def _stand_in(name: str, program: str = _STAND_IN) -> Spec:
    port = free_ports()
    return Spec(name, (sys.executable, "-c", program, name, str(port)), f"http://127.0.0.1:{port}/readyz")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """Return a plan of one stand-in a group."""
    (tmp_path / "logs").mkdir()
    return Plan(
        data=tmp_path,
        settings=Settings(),
        servers=(_stand_in("redis"),),
        core=(_stand_in("collect"),),
        edges=(_stand_in("edge-1"),),
        ports=(),
        given_urls=(),
    )


@asynccontextmanager
async def _running(plan: Plan, say: Callable[[str], None] = lambda _: None) -> AsyncIterator[Supervisor]:
    """Yield a supervisor whose children are ready; end it afterwards."""
    supervisor = Supervisor(plan, say)
    stop, ready = anyio.Event(), anyio.Event()

    async def when_ready() -> None:
        ready.set()

    async with anyio.create_task_group() as tg:
        tg.start_soon(supervisor.run, stop, when_ready)
        with anyio.fail_after(60):
            await ready.wait()
        yield supervisor
        stop.set()


async def _run(plan: Plan) -> None:
    """Run a plan that is not going to become ready."""

    async def when_ready() -> None:
        pytest.fail("it became ready")

    with anyio.fail_after(60):
        await Supervisor(plan, lambda _: None).run(anyio.Event(), when_ready)


async def test_children_end_in_the_reverse_order_of_their_start(plan: Plan) -> None:
    """The edges first, so that they can say goodbye while everything else still works; the servers last."""
    async with _running(plan) as supervisor:
        pids = supervisor.pids
    assert (plan.data / "ends").read_text().split() == ["edge-1", "collect", "redis"]
    assert not any(psutil.pid_exists(pid) for pid in pids.values())


async def test_a_killed_child_is_started_again(plan: Plan) -> None:
    """It is said once, and the others are left alone."""
    said: list[str] = []
    async with _running(plan, said.append) as supervisor:
        before = supervisor.pids
        os.kill(before["collect"], signal.SIGKILL)
        with anyio.fail_after(60):
            while supervisor.pids.get("collect", before["collect"]) == before["collect"]:  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.01)
        after = supervisor.pids
    assert said == ["collect ended by signal 9; it is started again"]
    assert {name for name in before if before[name] != after[name]} == {"collect"}


async def test_a_child_that_keeps_ending_is_given_up(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the end of its log, and nothing is left running."""
    monkeypatch.setattr(module, "_RESTART_MAX_MS", 10)
    bad = _stand_in("collect", "import sys; sys.exit('the disk is on fire')")
    with pytest.RaisesGroup(ChildFailed, flatten_subgroups=True) as caught:
        await _run(replace(plan, core=(bad,)))
    text = str(caught.value.exceptions[0])
    assert "collect keeps ending: it ended with exit code 1" in text
    assert "the disk is on fire" in text


async def test_a_child_that_must_not_start_is_given_up_at_once(plan: Plan) -> None:
    """Exit code 2 says that a setting or a server is unfit, which no restart mends."""
    bad = _stand_in("edge-1", "import sys; print('setting node is wrong'); sys.exit(2)")
    with pytest.RaisesGroup(pytest.RaisesExc(ChildFailed, match="setting node is wrong"), flatten_subgroups=True):
        await _run(replace(plan, edges=(bad,)))
    assert (plan.log("edge-1")).read_text().count("wrong") == 1


async def test_a_child_that_does_not_become_ready_is_given_up(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the name of the child."""
    monkeypatch.setattr(module, "READY_TIMEOUT_S", 0.2)
    bad = _stand_in("collect", "import time; time.sleep(600)")
    with pytest.RaisesGroup(pytest.RaisesExc(ChildFailed, match="collect is not ready"), flatten_subgroups=True):
        await _run(replace(plan, servers=(), core=(bad,), edges=()))


async def test_a_named_server_that_does_not_answer_is_told_without_its_password(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is started."""
    monkeypatch.setattr(module, "GIVEN_TIMEOUT_S", 0.2)
    url = f"redis://:secret@127.0.0.1:{free_ports()}/0"
    with pytest.RaisesGroup(pytest.RaisesExc(SetupError, match=r"^Redis at 127\.0"), flatten_subgroups=True):
        await _run(replace(plan, given_urls=(url,)))
    assert not list((plan.data / "logs").iterdir())
