"""scripts/producers: each language's program, built and run as its README says, reaches somebody who listens.

A language is skipped where its toolchain is missing or too old, or where its packages cannot be had because their registry is
out of reach. Whatever else goes wrong in a build is a failure. Nothing is built in the checkout: each folder is copied first.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.sync.client import ClientConnection, connect

from edge.client import SUBPROTOCOL
from router.up.children import child_environment, spawn
from tests.stack import Stack

PRODUCERS: Final = Path(__file__).parents[2] / "scripts" / "producers"

BUILD_TIMEOUT_S: Final = 200.0
"""Go and Rust compile what they use from source when it is not in their caches: 45 s and 20 s on two cores that are idle."""

_CACHES: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")

CARGO: Final = {
    # Cargo alone keeps what it has compiled in the project's folder, which is another one each time.
    "CARGO_TARGET_DIR": str(_CACHES / "pushway-tests" / "rust"),
    "CARGO_PROFILE_DEV_DEBUG": "false",
    "CARGO_INCREMENTAL": "0",
}

RUN_TIMEOUT_S: Final = 60.0
FRAME_TIMEOUT_S: Final = 60.0

ORDER: Final = 1042
BODY: Final = {"order": ORDER, "text": "Your order is on its way 🚚 Schöne Grüße!"}

EXCUSES: Final = {
    "its package registry is out of reach": re.compile(
        r"no such host|unknown host|could not resolve|name resolution|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT"
        r"|dial tcp|i/o timeout|connection refused|network is unreachable|failed to connect|couldn't connect",
        re.IGNORECASE,
    ),
    "its toolchain is too old": re.compile(
        r"requires go >=|invalid go version|requires rustc|lock file version"
        r"|invalid target release|release version \d+ not supported"
    ),
}


@dataclass(frozen=True)
class Language:
    """How a language's program is built and run, in its folder.

    Attributes:
        folder: in scripts/producers.
        tools: programs that the machine must have.
        builds: commands to be run first.
        run: the program; user and order number follow.
        joined: whether those two are one word, behind the last of `run`.
    """

    folder: str
    tools: tuple[str, ...]
    builds: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]
    joined: bool = False

    def command(self, user: str) -> list[str]:
        """Return the command line that appends a message to a user."""
        if self.joined:
            return [*self.run[:-1], f"{self.run[-1]}{user} {ORDER}"]
        return [*self.run, user, str(ORDER)]


_MAVEN = ("mvn", "--batch-mode", "--quiet", "-Dstyle.color=never", "compile")

LANGUAGES: Final = (
    Language("shell", ("redis-cli", "jq"), (), ("./append.sh",)),
    Language("python", (), (), (sys.executable, "append.py")),
    Language("node", ("node", "npm"), (("npm", "ci", "--no-audit", "--no-fund"),), ("node", "append.js")),
    Language("go", ("go",), (("go", "build", "-o", "append", "."),), ("./append",)),
    Language("java", ("java", "mvn"), (_MAVEN,), (*_MAVEN, "exec:java", "-Dexec.args="), joined=True),
    Language("rust", ("cargo",), (("cargo", "build", "--locked"),), ("cargo", "run", "--quiet", "--locked")),
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Yield one system for the whole file; each language has a user of its own."""
    with Stack(tmp_path_factory.mktemp("stack"), edges=1) as running:
        yield running


@pytest.fixture
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty folder."""
    return tmp_path_factory.mktemp("producer")


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.folder)
def test_a_program_reaches_who_listens(language: Language, stack: Stack, workshop: Path) -> None:
    """Run twice, as after an append of unknown outcome, it prints two entries, and the user gets the message once."""
    home = workshop / language.folder
    # With the times of now: Cargo goes by them, and what it has kept may be of another checkout.
    ignore = shutil.ignore_patterns("node_modules", "target")
    shutil.copytree(PRODUCERS / language.folder, home, ignore=ignore, copy_function=shutil.copy)
    _build(language, home)
    user = f"{language.folder}-user"
    with _listening(stack, user) as socket, stack.redis_client() as client:
        entries = [_run(language.command(user), home, stack.settings.redis_url) for _ in range(2)]
        assert all(re.fullmatch(r"\d+-\d+", entry) for entry in entries), entries
        client.xadd("push:{0}:in", {"to": f"user:{user}", "text": "the end"})
        first, last = _next_message(socket), _next_message(socket)
    assert (first["to"], first["id"], first["body"]) == (f"user:{user}", f"order-{ORDER}-shipped", BODY)
    assert last["text"] == "the end"


@pytest.mark.parametrize("page", ["scripts/producers/README.md", "docs/producers.md"])
def test_each_language_can_be_found(page: str) -> None:
    """Both pages link to every folder there is, and every folder is tried here."""
    text = (PRODUCERS.parents[1] / page).read_text(encoding="utf-8")
    folders = {path.name for path in PRODUCERS.iterdir() if path.is_dir()}
    assert folders == {language.folder for language in LANGUAGES}
    assert {folder for folder in folders if not re.search(rf"\((\S*/)?{folder}/[^)]+\)", text)} == set()


def test_the_locks_name_public_registries_only() -> None:
    """A lock file made on a machine behind a mirror would send everybody there."""
    locks = ("node/package-lock.json", "go/go.sum", "rust/Cargo.lock")
    told = "\n".join((PRODUCERS / lock).read_text(encoding="utf-8") for lock in locks)
    assert set(re.findall(r"https?://[^/\"\s]+", told)) <= {"https://github.com", "https://registry.npmjs.org"}


def _build(language: Language, home: Path) -> None:
    """Build a program, or skip the test when that cannot be its fault."""
    for tool in language.tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{language.folder}: no {tool} here")
    for command in language.builds:
        status, output = _output(command, home, BUILD_TIMEOUT_S, {})
        for excuse, words in EXCUSES.items():
            if status and words.search(output):
                pytest.skip(f"{language.folder}: {excuse}")
        assert status == 0, f"{' '.join(command)} ended with {status}:\n{output}"


def _run(command: list[str], home: Path, redis_url: str) -> str:
    """Run a program, and return the last line that it prints, without the colours that Maven ends it with."""
    status, output = _output(command, home, RUN_TIMEOUT_S, {"REDIS_URL": redis_url})
    assert status == 0, output
    return re.sub(r"\x1b\[\d*m", "", output).split()[-1]


def _output(command: tuple[str, ...] | list[str], home: Path, timeout_s: float, more: dict[str, str]) -> tuple[int, str]:
    """Return a command's exit status and what it printed, on whichever stream.

    Raises:
        AssertionError: when it does not end in time; everything that it started is killed then.
    """
    log = home / "output.log"
    log.unlink(missing_ok=True)
    process = spawn(command, log=log, env=child_environment(os.environ) | CARGO | more, cwd=home)
    try:
        status = process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise AssertionError(f"{' '.join(command)} does not end:\n{log.read_text(errors='replace')}") from None
    return status, log.read_text(encoding="utf-8")


@contextmanager
def _listening(stack: Stack, user: str) -> Iterator[ClientConnection]:
    """Yield a connection of a user that has had its welcome."""
    with connect(
        stack.edge_urls[0],
        subprotocols=[SUBPROTOCOL],
        additional_headers={"Authorization": f"Bearer {stack.token(user)}"},
        compression=None,
        proxy=None,
    ) as socket:
        assert json.loads(socket.recv(FRAME_TIMEOUT_S))["type"] == "welcome"
        yield socket


def _next_message(socket: ClientConnection) -> dict[str, Any]:
    """Return the next message frame."""
    while True:
        frame: dict[str, Any] = json.loads(socket.recv(FRAME_TIMEOUT_S))
        if frame["type"] == "message":
            return frame
