"""Both OpenAPI documents against the services that serve them: schemathesis makes requests of them, good and bad."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers import wait_until
from tests.stack import API_KEY, Stack

KEY = {"authorization": f"Bearer {API_KEY}"}

EXAMPLES = 30
"""Requests made of each operation in the fuzzing phase; the others make what the document gives rise to."""

SEED = 4711

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A whole system, with the message in it that the API's examples speak of."""
    with Stack(tmp_path_factory.mktemp("stack"), edges=1) as stack:
        with stack.redis_client() as redis:
            redis.xadd("push:{0}:in", {"to": "user:alice", "text": "hello", "id": "order-4711", "trace": "1"})
        url = f"{_api(stack)}/v1/messages/order-4711"
        wait_until(lambda: httpx.get(url, headers=KEY, trust_env=False).is_success, "the message is stored")
        yield stack


def _api(stack: Stack) -> str:
    return f"http://{stack.settings.api_host}:{stack.settings.api_port}"


def _fuzz(url: str, folder: Path, *options: str) -> None:
    """Let schemathesis make its requests of a service; what it finds is the failure's text, with a curl line each."""
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/v1/openapi.json", "--no-color"),
        *("--checks", "all", "--max-examples", str(EXAMPLES), "--seed", str(SEED), "--generation-database", "none"),
        *("--header", f"Authorization: Bearer {API_KEY}", *options),
    ]
    # The folder is empty, so that no configuration is found there.
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]


def test_api_keeps_to_its_document(stack: Stack, tmp_path: Path) -> None:
    """No request brings an answer that is not described, or an error of the service; none that is wrong is taken."""
    _fuzz(_api(stack), tmp_path)


def test_auth_keeps_to_its_document(stack: Stack, tmp_path: Path) -> None:
    """Likewise."""
    _fuzz(stack.settings.auth_url, tmp_path)
