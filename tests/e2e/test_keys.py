"""pushway keys and two services that run: who may do what, and how soon a change counts."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest

from tests.e2e.command_line import run
from tests.servers import wait_until
from tests.stack import API_KEY, Stack

MESSAGE = {"to": "user:alice", "text": "hello"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield a whole system whose file of keys is empty at its start."""
    folder = tmp_path_factory.mktemp("stack")
    file = folder / "api-keys.toml"
    file.touch()
    settings = {"api_keys_file": str(file), "api_keys_reload_s": 0.2, "log_level": "debug"}
    with Stack(folder, edges=1, settings=settings) as stack:
        yield stack


def _keys(stack: Stack, *words: str) -> str:
    done = run(stack, "keys", *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _send(stack: Stack, key: str) -> int:
    url = f"http://127.0.0.1:{stack.settings.api_port}/v1/messages"
    return httpx.post(url, json=MESSAGE, headers={"authorization": f"Bearer {key}"}, trust_env=False).status_code


def _issue(stack: Stack, key: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(f"{stack.settings.auth_url}/v1/tokens", json={"user": "alice"}, headers=headers, trust_env=False)


def test_a_key_comes_rotates_and_goes_without_a_restart(stack: Stack) -> None:
    """It is good for its scope alone; the old one goes on for the overlap, and a dropped one ends within seconds."""
    first = _keys(stack, "make", "billing", "--scope", "send")
    wait_until(lambda: _send(stack, first) == HTTPStatus.ACCEPTED, "the key counts")
    wait_until(lambda: _issue(stack, first).status_code == HTTPStatus.FORBIDDEN, "auth knows it, and what it is not good for")
    assert 'scope="tokens"' in _issue(stack, first).headers["www-authenticate"]

    second = _keys(stack, "rotate", "billing", "--overlap", "1h")
    wait_until(lambda: _send(stack, second) == HTTPStatus.ACCEPTED, "the second key counts")
    assert _send(stack, first) == HTTPStatus.ACCEPTED

    third = _keys(stack, "rotate", "billing", "--overlap", "0s")
    wait_until(lambda: _send(stack, first) == _send(stack, second) == HTTPStatus.UNAUTHORIZED, "the old ones have ended")
    assert _send(stack, third) == HTTPStatus.ACCEPTED

    _keys(stack, "drop", "billing")
    wait_until(lambda: _send(stack, third) == HTTPStatus.UNAUTHORIZED, "the key is gone")
    assert _send(stack, API_KEY) == HTTPStatus.ACCEPTED
    _check_log(stack["collect"].log, first, second, third)


def _check_log(log: Path, *keys: str) -> None:
    text = log.read_text(encoding="utf-8")
    assert "caller=billing" in text
    assert not [key for key in (*keys, API_KEY) if key in text]
