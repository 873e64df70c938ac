"""The ways to authenticate as docs/auth.md shows them: what stands there is typed, and a client gets in."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from edge.client import SUBPROTOCOL
from tests.servers import free_ports, wait_until
from tests.stack import Stack

PAGE: Final = (Path(__file__).parents[2] / "docs" / "auth.md").read_text(encoding="utf-8")
PATIENCE_S: Final = 60.0

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl here")


def _example(section: str, language: str) -> str:
    """Return the first example of a language in a section of the page."""
    text = PAGE[PAGE.index(f"\n# {section}\n") :]
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found, section
    return found[1]


def _type(folder: Path, script: str) -> None:
    done = subprocess.run(["/bin/sh", "-eu"], input=script, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _settings(folder: Path, name: str) -> dict[str, Any]:
    return tomllib.loads((folder / name).read_text(encoding="utf-8"))


@contextmanager
def _stack(folder: Path, settings: dict[str, Any]) -> Iterator[Stack]:
    (folder / "stack").mkdir()
    with Stack(folder / "stack", edges=1, settings=settings) as stack:
        yield stack


def _hears(stack: Stack, token: str) -> str:
    """Connect, have a message sent to alice and one to her topic, and return who the edge says it is."""
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{stack.edge_urls[0]}?topics=news"
    with connect(url, subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None) as connection:
        frames: list[dict[str, Any]] = []

        def until(kind: str) -> dict[str, Any]:
            while not frames or frames[-1]["type"] != kind:
                frames.append(json.loads(connection.recv(PATIENCE_S)))
            return frames[-1]

        user: str = until("welcome")["user"]
        until("subscribed")
        with stack.redis_client() as redis:
            redis.xadd("push:{0}:in", {"to": "topic:news", "text": "hello"})
        assert until("message")["text"] == "hello"
        frames.clear()
        with stack.redis_client() as redis:
            redis.xadd("push:{0}:in", {"to": "user:alice", "text": "hello alice"})
        assert until("message")["text"] == "hello alice"
    return user


def _closed(stack: Stack, token: str) -> tuple[int, str]:
    """Connect, and return how the edge ends that."""
    headers = {"Authorization": f"Bearer {token}"}
    with (
        connect(stack.edge_urls[0], subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None) as connection,
        pytest.raises(ConnectionClosed) as closed,
    ):
        connection.recv(PATIENCE_S)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


@needs_openssl
def test_tokens_of_an_issuer(tmp_path: Path) -> None:
    """The back end's program makes a token, with which alice hears what is sent to her; auth's tokens get nobody in."""
    (tmp_path / "make_token.py").write_text(_example("Tokens of your issuer", "python"), encoding="utf-8")
    _type(tmp_path, _example("Tokens of your issuer", "sh"))
    with _stack(tmp_path, _settings(tmp_path, "jwt.toml")) as stack:
        command = [sys.executable, "make_token.py", "alice"]
        token = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()
        assert _hears(stack, token) == "alice"
        assert _closed(stack, stack.token("alice"))[0] == 4500


def test_asking_a_service(tmp_path: Path) -> None:
    """The back end says who it is; who has no login is refused with its reason, and everybody is put off while it is away."""
    port = free_ports()
    program, settings = (_example("Ask your own service", kind).replace("9000", str(port)) for kind in ("python", "sh"))
    (tmp_path / "who.py").write_text(program, encoding="utf-8")
    _type(tmp_path, settings)
    with subprocess.Popen([sys.executable, "who.py"], cwd=tmp_path, stderr=subprocess.DEVNULL) as service:
        try:
            wait_until(lambda: _answers(port), "the back end answers")
            with _stack(tmp_path, _settings(tmp_path, "http.toml")) as stack:
                assert _hears(stack, "alices-login") == "alice"
                assert _closed(stack, "nobodys-login") == (4500, "not authenticated: log in first")
                service.kill()
                service.wait()
                assert _closed(stack, "bobs-login")[0] == 4001
        finally:
            service.kill()


def _answers(port: int) -> bool:
    try:
        return httpx.post(f"http://127.0.0.1:{port}/who", json={"token": ""}, trust_env=False).status_code == 403
    except httpx.HTTPError:
        return False
