"""Auth and the API behind a certificate: https, as http was, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from router.auth.client import request_token
from router.auth.service import serve as serve_auth
from router.http.server import serve_http
from router.ops import Health
from router.settings import Settings
from router.tls.certificate import Certificate
from tests.certificates import Authority, shown
from tests.integration.edges import PROMPT_S, eventually
from tests.servers import free_ports, wait_until

pytestmark = pytest.mark.anyio


async def _echo(request: Request) -> Response:
    return PlainTextResponse(await request.body(), headers={"scheme": request.url.scheme})


async def _long(_request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for n in range(100):
            yield bytes([n]) * 50_000

    return StreamingResponse(pieces())


APP: Final = Starlette(routes=[Route("/echo", _echo, methods=["POST"]), Route("/long", _long)])


class Site:
    """An application behind a certificate."""

    def __init__(self, authority: Authority, port: int) -> None:
        self.authority, self.port = authority, port
        self.url = f"https://localhost:{port}"

    def client(self) -> httpx.AsyncClient:
        """Return a client that trusts it."""
        return httpx.AsyncClient(verify=self.authority.trust, trust_env=False, base_url=self.url, timeout=PROMPT_S)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Yield a site that serves."""
    authority, port, stop = Authority(tmp_path), free_ports(), anyio.Event()
    pair = authority.issue("localhost")
    certificate = Certificate("http", str(pair.cert), str(pair.key), 0.02)
    async with anyio.create_task_group() as tasks:
        await tasks.start(partial(serve_http, APP, "127.0.0.1", port, stop, certificate=certificate))
        yield Site(authority, port)
        stop.set()


async def test_requests_and_answers_go_over_tls(site: Site) -> None:
    """Large ones too, one behind the other on one connection, and the application knows."""
    async with site.client() as client:
        for size in (1, 16_384, 16_385, 3_000_000):
            answer = await client.post("/echo", content=b"x" * size)
            assert len(answer.content) == size
            assert answer.headers["scheme"] == "https"
        assert len((await client.get("/long")).content) == 5_000_000


async def test_a_new_certificate_serves_new_connections(site: Site) -> None:
    """The old connection is kept; who trusts the new CA alone gets in by a new one."""
    async with site.client() as old:
        assert (await old.post("/echo", content=b"a")).text == "a"
        site.authority.file.unlink()
        other = Authority(site.authority.file.parent)
        other.issue("localhost")

        async def taken() -> bool:
            async with httpx.AsyncClient(verify=other.trust, trust_env=False) as new:
                try:
                    return (await new.post(f"{site.url}/echo", content=b"b")).text == "b"
                except httpx.ConnectError:
                    return False

        await eventually(taken)
        assert (await old.post("/echo", content=b"c")).text == "c"


async def test_plain_http_is_told_so(site: Site) -> None:
    """With 400, at once."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://localhost:{site.port}/long")
    assert answer.status_code == 400
    assert "use https://" in answer.text


async def test_a_stopping_server_waits_for_no_handshake(site: Site) -> None:
    """The fixture ends while this one is still silent."""
    silent = await anyio.connect_tcp("127.0.0.1", site.port)
    await silent.send(b"\x16\x03\x01")
    await silent.aclose()


async def test_tokens_are_had_over_https(tmp_path: Path) -> None:
    """By what `pushway token` and the edges ask with: `http_ca_file` names the CA, and without it the reason is told."""
    authority, port = Authority(tmp_path), free_ports()
    pair = authority.issue("localhost")
    values: dict[str, Any] = {"api_key": "k" * 32, "auth_port": port, "auth_url": f"https://localhost:{port}"}
    files = {"auth_key_file": tmp_path / "auth.pem", "http_tls_cert_file": str(pair.cert), "http_tls_key_file": str(pair.key)}
    settings = Settings(**values, **files, http_ca_file=str(authority.file))
    stop, health = anyio.Event(), Health()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve_auth, settings, health, stop)
        await eventually(lambda: health.ready)
        assert (await request_token(settings, "alice")).user == "alice"
        with pytest.raises(ConnectionError, match=r"its certificate is not trusted: .*http_ca_file"):
            await request_token(settings.model_copy(update={"http_ca_file": ""}), "alice")
        stop.set()


@contextmanager
def _auth(settings: dict[str, object]) -> Iterator[subprocess.Popen[bytes]]:
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    with subprocess.Popen([sys.executable, "-m", "router.commands", "auth", *words], stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_signal_has_the_files_looked_at(tmp_path: Path) -> None:
    """SIGHUP ends no service: a new certificate is shown long before the files' own turn."""
    authority, port = Authority(tmp_path), free_ports()
    pair = authority.issue("localhost")
    files = {"http_tls_cert_file": pair.cert, "http_tls_key_file": pair.key, "auth_key_file": tmp_path / "auth.pem"}
    with _auth({"api_key": "k" * 32, "auth_port": port, "tls_reload_s": 3_600, **files}) as process:
        wait_until(lambda: shown(port, authority.trust) is not None, "auth answers")
        first = shown(port, authority.trust)
        authority.issue("localhost")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: shown(port, authority.trust) not in {None, first}, "the new certificate is shown")
        assert process.poll() is None
        process.terminate()
        assert process.wait(PROMPT_S) == 0
