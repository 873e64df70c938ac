"""router.service and router.ops over real processes, signals and sockets."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio
import httpx
import pytest

from router.errors import SetupError
from router.http.server import serve_http
from router.ops import Health, ops_app
from tests.servers import free_ports, port_is_free

TIMEOUT_S: Final = 60.0

SCRIPT: Final = """
import sys, anyio
from router.errors import SetupError
from router.service import run
from router.settings import Settings

async def serve(settings, health, stop):
    if sys.argv[2] == "unfit":
        raise SetupError("maxmemory-policy is allkeys-lru")
    if sys.argv[2] == "broken":
        raise ZeroDivisionError
    health.set("self", ok=True)
    print("serving", flush=True)
    await stop.wait()
    health.set("self", ok=False, why="draining")
    print("draining", flush=True)
    if sys.argv[2] == "slow":
        await anyio.sleep_forever()

sys.exit(run("probe", Settings(ops_port=int(sys.argv[1])), serve))
"""


@contextmanager
def _service(kind: str, ops_port: int = 0) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(ops_port), kind],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _await_line(process: subprocess.Popen[str], text: str) -> None:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], TIMEOUT_S)
    assert ready, f"no {text!r} in {TIMEOUT_S} s"
    assert process.stdout.readline().strip() == text


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_stops_cleanly(signum: signal.Signals) -> None:
    """A signal sets the stop event, and a service that ends is exit code 0."""
    with _service("quick") as process:
        _await_line(process, "serving")
        process.send_signal(signum)
        _await_line(process, "draining")
        assert process.wait(TIMEOUT_S) == 0


def test_second_signal_cancels_at_once() -> None:
    """A service that will not end is cut off by the second signal, and says so by its exit code."""
    with _service("slow") as process:
        _await_line(process, "serving")
        process.terminate()
        _await_line(process, "draining")
        process.terminate()
        assert process.wait(TIMEOUT_S) == 1


def test_setup_error_is_one_line_and_exit_code_2() -> None:
    """What must not start says why in one line, without a traceback."""
    with _service("unfit") as process:
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert err.splitlines()[-1] == "pushway probe: maxmemory-policy is allkeys-lru"
    assert "Traceback" not in err


def test_crash_is_logged_and_exit_code_1() -> None:
    """An error nobody foresaw leaves its traceback in the log."""
    with _service("broken") as process:
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1
    assert "service_crashed" in err
    assert "ZeroDivisionError" in err


def test_taken_ops_port_is_a_setup_error() -> None:
    """An address in use is named, with exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _service("quick", port) as process:
            _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in err


def test_ops_port_answers_while_draining() -> None:
    """The ops port is served to the very end: unready with the reason, still alive."""
    port = free_ports()
    with _service("slow", port) as process:
        _await_line(process, "serving")
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        process.terminate()
        _await_line(process, "draining")
        assert httpx.get(f"http://127.0.0.1:{port}/readyz").json()["reasons"] == {"self": "draining"}
        assert httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200


@pytest.mark.anyio
async def test_serve_http_listens_when_started_and_ends_at_stop() -> None:
    """`start` returns when requests are answered; after the stop event the port is free again."""
    port, stop = free_ports(), anyio.Event()
    with anyio.fail_after(TIMEOUT_S):
        async with anyio.create_task_group() as tg, httpx.AsyncClient() as client:
            await tg.start(serve_http, ops_app(Health()), "127.0.0.1", port, stop)
            assert (await client.get(f"http://127.0.0.1:{port}/livez")).text == "ok\n"
            stop.set()
    assert port_is_free(port)


@pytest.mark.anyio
async def test_serve_http_leaves_nothing_open_when_cancelled() -> None:
    """Cancelling frees the port too."""
    port = free_ports()
    async with anyio.create_task_group() as tg:
        await tg.start(serve_http, ops_app(Health()), "127.0.0.1", port, anyio.Event())
        tg.cancel_scope.cancel()
    assert port_is_free(port)


@pytest.mark.anyio
async def test_serve_http_port_0_serves_none() -> None:
    """Port 0 is how a port is switched off."""
    began = time.monotonic()
    await serve_http(ops_app(Health()), "127.0.0.1", 0, anyio.Event())
    assert time.monotonic() - began < TIMEOUT_S


@pytest.mark.anyio
async def test_serve_http_on_a_taken_port_raises_setup_error() -> None:
    """The error names the address instead of ending the process."""
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SetupError, match="cannot listen"):
        await serve_http(ops_app(Health()), "127.0.0.1", taken.getsockname()[1], anyio.Event())
