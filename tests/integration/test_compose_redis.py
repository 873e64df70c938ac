"""The Redis of deploy/compose, as it stands there, run by Debian's redis-server: users get in by addresses made for them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import redis
import yaml

from router.redis_users import USERS
from tests.servers import DebianRedis

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
SERVICE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))["services"][
    "redis"
]
MOUNTED: Final = "/run/secrets"

pytestmark = pytest.mark.skipif(not DebianRedis.available(), reason="no redis-server here")


class Composed(DebianRedis):
    """The server, with the words of compose behind those that keep it in a folder and on this machine.

    Args:
        folder: for its data.
        secrets: the folder that the script has filled; its addresses will lead here.
    """

    def __init__(self, folder: Path, secrets: Path) -> None:
        program, *words = (word.replace(MOUNTED, str(secrets)) for word in SERVICE["command"])
        assert program == "redis-server"
        super().__init__(folder, *words)
        self.secrets = secrets
        for path in secrets.glob("redis_*_url"):
            user, _, _ = path.read_text(encoding="utf-8").partition("@")
            path.write_text(f"{user}@127.0.0.1:{self.port}/0", encoding="utf-8")

    @property
    def url(self) -> str:
        """Where whoever asks whether it answers goes."""
        return self.url_of("pushway-operator")

    def url_of(self, user: str) -> str:
        """Return the address of a user."""
        return (self.secrets / f"redis_{user.removeprefix('pushway-')}_url").read_text(encoding="utf-8")

    def client_of(self, user: str) -> redis.Redis:
        """Return a client that has the address of a user."""
        return redis.Redis.from_url(self.url_of(user), protocol=2)


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """Yield the server."""
    folder = tmp_path_factory.mktemp("compose")
    shutil.copytree(DEPLOY / "redis", folder / "redis")
    (folder / "compose").mkdir()
    shutil.copy(DEPLOY / "compose" / "secrets.sh", folder / "compose")
    subprocess.run(["/bin/sh", str(folder / "compose" / "secrets.sh")], check=True)
    with Composed(folder / "data", folder / "compose" / "secrets") as server:
        yield server


def _check(composed: Composed) -> int:
    """Return the exit code of the container's health check."""
    kind, said = SERVICE["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    words = str(said).replace("$$", "$").replace(MOUNTED, str(composed.secrets))
    return subprocess.run(["/bin/sh", "-c", words], check=False, capture_output=True).returncode


def test_it_is_well_by_its_own_check(composed: Composed) -> None:
    """And would not be by a password that is another one."""
    assert _check(composed) == 0
    address = composed.secrets / "redis_operator_url"
    kept = address.read_text(encoding="utf-8")
    try:
        address.write_text(kept.replace("pushway-operator:", "pushway-operator:no"), encoding="utf-8")
        assert _check(composed) != 0
    finally:
        address.write_text(kept, encoding="utf-8")


@pytest.mark.parametrize("user", [user.name for user in USERS])
def test_each_user_gets_in_by_its_address(composed: Composed, user: str) -> None:
    """With the password in it."""
    with composed.client_of(user) as client:
        assert client.ping()


def test_nobody_else_gets_in(composed: Composed) -> None:
    """Whoever reaches the port has to be one of them."""
    with redis.Redis(port=composed.port, protocol=2) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_a_producer_appends_and_no_more(composed: Composed) -> None:
    """As the head of the file says, with what it says to type."""
    head = (DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8")
    (line,) = (line.removeprefix("#").strip() for line in head.splitlines() if "XADD" in line)
    words = line.replace("deploy/compose/secrets", str(composed.secrets))
    done = subprocess.run(["/bin/sh", "-c", words], check=True, capture_output=True, text=True)
    assert "-" in done.stdout
    with composed.client_of("pushway-producer") as client, pytest.raises(redis.exceptions.NoPermissionError):
        client.xlen("push:{0}:in")
