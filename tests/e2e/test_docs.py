"""The pages' examples against a system that runs: what stands there can be typed, and is answered as it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from edge.client import SUBPROTOCOL
from tests.servers import wait_until
from tests.stack import Stack

DOCS: Final = Path(__file__).parents[2] / "docs"
TIMEOUT_S: Final = 60.0
PATIENCE_S: Final = 60.0

_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$|^(## [^\n]+)$", re.MULTILINE | re.DOTALL)

SELDOM: Final = {"carried", "trace", "acked", "not_acked"}
"""Members that are not always there, or empty."""

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
needs_redis_cli = pytest.mark.skipif(shutil.which("redis-cli") is None, reason="no redis-cli here")


class Example(NamedTuple):
    """Something to be typed, and what the page says it is answered; None where it says nothing."""

    section: str
    typed: str
    answer: str | None


def _page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def _examples(page: str) -> list[Example]:
    """Return the shell examples of a page, each with the JSON behind it."""
    examples: list[Example] = []
    section = ""
    answerable = False
    for language, text, heading in _BLOCK.findall(_page(page)):
        section = heading or section
        if language == "sh":
            examples.append(Example(section, text, None))
        elif language == "json" and answerable:
            examples[-1] = examples[-1]._replace(answer=text)
        answerable = language == "sh"
    return examples


class Shell:
    """Types what a page says, for a system on other ports than the page's."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        (folder / ".pushway").mkdir()
        (folder / ".pushway" / "pushway.toml").symlink_to(stack.config)

    def type(self, said: str) -> str:
        """Return what the lines print; they fail if one of them does."""
        settings = self._stack.settings
        redis_port = settings.redis_url.rpartition(":")[2].partition("/")[0]
        script = said.replace("127.0.0.1:8000", f"127.0.0.1:{settings.api_port}").replace("-p 6390", f"-p {redis_port}")
        begin = "set -eu; shopt -s expand_aliases; curl() { command curl -sS --fail-with-body --noproxy '*' \"$@\"; }\n"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            [shutil.which("bash") or "/bin/bash"],
            input=begin + script,
            cwd=self._folder,
            env=os.environ | {"PATH": path, "COLUMNS": "160"},
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, with one edge."""
    with Stack(tmp_path_factory.mktemp("stack"), edges=1) as running:
        yield running


@pytest.fixture(scope="module")
def shell(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Return a shell in the folder where `up` was started, so to say."""
    return Shell(stack, tmp_path_factory.mktemp("folder"))


@pytest.fixture
def alice(stack: Stack) -> Iterator[ClientConnection]:
    """Yield a connection of the user whom the pages speak of, with a device, subscribed to what they speak of."""
    headers = {"Authorization": f"Bearer {stack.token('alice', topics=['*'])}"}
    url = f"{stack.edge_urls[0]}?device=phone&topics=news,room-7"
    with connect(url, subprotocols=[SUBPROTOCOL], additional_headers=headers, proxy=None) as connection:
        _until(connection, "subscribed", topic="room-7")
        yield connection


def _until(connection: ClientConnection, kind: str, **said: object) -> dict[str, Any]:
    """Return the next frame of this type that says this."""
    while True:
        frame: dict[str, Any] = json.loads(connection.recv(PATIENCE_S))
        if frame["type"] == kind and said.items() <= frame.items():
            return frame


def _alike(said: object, found: object, where: str = "") -> None:
    """Assert that an answer has the shape of the example, down to every member; null stands for anything."""
    if said is None or found is None:
        return
    assert type(said) is type(found), where
    if isinstance(said, dict) and isinstance(found, dict):
        assert said.keys() - SELDOM == found.keys() - SELDOM, where
        for name in said.keys() - SELDOM:
            _alike(said[name], found[name], f"{where}.{name}")
    if isinstance(said, list) and isinstance(found, list):
        assert found or not said, where
        for place, (one, other) in enumerate(zip(said, found, strict=False)):
            _alike(one, other, f"{where}[{place}]")


@needs_curl
def test_examples_of_the_http_page(stack: Stack, shell: Shell, alice: ClientConnection) -> None:
    """Each can be typed and is answered with what stands below it; and does what the page says of it."""
    with stack.redis_client() as redis:
        redis.xadd("push:{0}:in", {"to": "topic:news", "text": "hello", "id": "news-17"})
    _until(alice, "message", id="news-17")
    examples = _examples("http.md")
    key = next(line for line in examples[0].typed.splitlines() if line.startswith("key="))
    for example in examples:
        printed = shell.type(f"{key}\n{example.typed}")
        if example.answer is not None:
            _alike(json.loads(example.answer), json.loads(printed), example.typed)
    _until(alice, "unsubscribed", topic="news")
    with pytest.raises(ConnectionClosed):
        _until(alice, "nothing more")
    assert (alice.close_code, alice.close_reason) == (4710, "signed out elsewhere")


def test_every_address_of_the_api_has_an_example() -> None:
    """Of what only asks, or ends no person: one that can be typed, below its heading."""
    sections = {example.section for example in _examples("http.md")}
    headings = [heading for _, _, heading in _BLOCK.findall(_page("http.md")) if "/v1/" in heading]
    assert [heading for heading in headings if heading not in sections] == ["## DELETE /v1/users/{user}"]


@needs_redis_cli
def test_examples_of_the_producers_page(stack: Stack, shell: Shell, alice: ClientConnection) -> None:
    """Each can be typed, and arrives, passes by, waits or dies as the page says."""
    examples = _examples("producers.md")
    alias = next(line for line in examples[0].typed.splitlines() if line.startswith("alias "))
    for example in examples:
        # A transcript shows what was typed behind a prompt, and what was printed without one.
        typed = [line.removeprefix("$ ") for line in example.typed.splitlines() if line.startswith("$ ")]
        shell.type(f"{alias}\n" + ("\n".join(typed) or example.typed))
    with stack.redis_client() as redis:
        redis.xadd("push:{0}:in", {"to": "topic:room-7", "text": "the end", "id": "the-end"})
        assert redis.xlen("push:{0}:dead") == 1
    seen: list[dict[str, Any]] = []
    while not seen or seen[-1]["id"] != "the-end":
        seen.append(_until(alice, "message"))
    contents = [message.get("body", message.get("text")) for message in seen]
    for content in ({"text": "hello"}, "The office is closed on Friday.", {"unread": 3}, {"unread": 4}, {"typing": True}):
        assert content in contents
    assert "hello" not in [message.get("text") for message in seen if message["to"] == "topic:room-7"]
    wait_until(lambda: "is not sent to one target" in shell.type("pushway cancel reminder-7"), "the reminder waits")


def test_client_of_the_protocol_page(stack: Stack, shell: Shell, tmp_path: Path) -> None:
    """The program at its end runs as it stands, and prints what comes."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", _page("protocol.md"), re.MULTILINE | re.DOTALL)
    (tmp_path / "client.py").write_text(program, encoding="utf-8")
    token = shell.type("pushway token carol --topic 'room-*'").strip()
    command = [sys.executable, "-u", str(tmp_path / "client.py"), stack.edge_urls[0], token]
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as running:
        assert running.stdout is not None
        kinds = [json.loads(running.stdout.readline())["type"] for _ in range(3)]
        assert kinds == ["welcome", "subscribed", "members"]
        shell.type("pushway send topic:room-7 '\"hello\"'")
        assert json.loads(running.stdout.readline())["body"] == "hello"
        running.kill()
