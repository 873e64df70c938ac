"""The commands for people, as they are typed, against all of Pushway."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.command_line import HEARS_CTRL_C, PUSHWAY, TIMEOUT_S, run
from tests.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, with two edges that leave at once when they are told to."""
    with Stack(tmp_path_factory.mktemp("stack"), settings={"drain_timeout_s": 0.1}) as running:
        yield running


def _append(stack: Stack, target: str, *bodies: str) -> None:
    with stack.redis_client() as redis:
        for body in bodies:
            redis.xadd("push:{0}:in", {"to": target, "body": body})


class Listener:
    """A running `pushway listen`, with what it has printed so far."""

    def __init__(self, stack: Stack, folder: Path, *words: str) -> None:
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("w") as out, self._err.open("w") as err:
            command = [*HEARS_CTRL_C, *PUSHWAY, "listen", "--config", str(stack.config), *words]
            self.process = subprocess.Popen(command, stdout=out, stderr=err)

    @property
    def out(self) -> list[str]:
        """The lines on standard output."""
        return self._out.read_text().splitlines()

    @property
    def err(self) -> list[str]:
        """The lines on standard error."""
        return self._err.read_text().splitlines()

    def wait_for(self, condition: Callable[[Listener], bool]) -> None:
        """Return when the condition holds."""
        ends = time.monotonic() + TIMEOUT_S
        while not condition(self):
            assert time.monotonic() < ends, f"not in {TIMEOUT_S} s; out: {self.out}, err: {self.err}"
            time.sleep(0.02)

    def welcomes(self) -> int:
        """Count the sessions it has had."""
        return sum(line.startswith("listening as") for line in self.err)


@contextmanager
def _listening(stack: Stack, folder: Path, *words: str) -> Iterator[Listener]:
    listener = Listener(stack, folder, *words)
    try:
        listener.wait_for(lambda it: it.welcomes() == 1)
        yield listener
    finally:
        listener.process.kill()
        listener.process.wait()


def test_sent_message_is_listened_to(stack: Stack, tmp_path: Path) -> None:
    """What `send` appends, `listen` prints: one line a message, and Ctrl-C is a good end."""
    with _listening(stack, tmp_path, "ann", "--edge", "2") as listener:
        done = run(stack, "send", "user:ann", '{"text": "hello"}')
        assert done.returncode == 0
        assert done.stdout.strip().partition("-")[0].isdigit()
        assert run(stack, "send", "user:ann", "two\nlines", "--text", "--transient").returncode == 0
        listener.wait_for(lambda it: len(it.out) == 2)
        assert listener.out[0].endswith('  user:ann  {"text":"hello"}')
        assert listener.out[1].endswith(r"  user:ann  two\nlines")
        assert "edge-2." in listener.err[0]
        listener.process.send_signal(signal.SIGINT)
        assert listener.process.wait(TIMEOUT_S) == 0


def test_json_of_a_message_is_the_frame(stack: Stack, tmp_path: Path) -> None:
    """--json prints what came; the same id is delivered once; nothing else goes to standard output."""
    with _listening(stack, tmp_path, "bob", "--json") as listener:
        for _ in range(2):
            appended = json.loads(run(stack, "send", "user:bob", "1", "--id", "one", "--ttl", "60", "--json").stdout)
            assert appended["stream"] == "push:{0}:in"
        run(stack, "send", "user:bob", "2")
        listener.wait_for(lambda it: len(it.out) == 2)
        frames = [json.loads(line) for line in listener.out]
    assert [(frame["id"], frame["body"]) for frame in frames[:1]] == [("one", 1)]
    assert frames[1]["body"] == 2


def test_sent_on_the_fast_lane(stack: Stack, tmp_path: Path) -> None:
    """`--fast` appends to `fast`, and a trace of it begins there; what that lane does not take is told at once."""
    with _listening(stack, tmp_path, "fred", "--json") as listener:
        appended = json.loads(run(stack, "send", "user:fred", '{"at": 1}', "--fast", "--json").stdout)
        assert appended["stream"] == "push:{0}:fast"
        traced = run(stack, "send", "user:fred", "a\nb", "--text", "--fast", "--trace", "--json")
        assert traced.returncode == 0
        assert [event["stage"] for event in json.loads(traced.stdout)["events"]] == ["appended", "dispatched", "delivered"]
        listener.wait_for(lambda it: len(it.out) == 2)
        frames = [json.loads(line) for line in listener.out]
    assert [frame.get("body", frame.get("text")) for frame in frames] == [{"at": 1}, "a\nb"]
    assert not any("seq" in frame for frame in frames)
    for words in (("user:fred,user:bob", "1"), ("user:fred", "[\n1]")):
        refused = run(stack, "send", *words, "--fast")
        assert refused.returncode == 2
        assert "fast lane" in refused.stderr


def test_listener_of_a_device_goes_on_where_it_stopped(stack: Stack, tmp_path: Path) -> None:
    """What was printed is acknowledged when it leaves; the next of that name prints what was sent meanwhile, and no more."""
    words = ("fay", "--device", "tablet", "--json")
    with _listening(stack, tmp_path, *words) as listener:
        _append(stack, "user:fay", "0", "1", "2")
        listener.wait_for(lambda it: len(it.out) == 3)
        listener.process.send_signal(signal.SIGINT)
        assert listener.process.wait(TIMEOUT_S) == 0
    _append(stack, "user:fay", "3", "4")
    with _listening(stack, tmp_path, *words) as listener:
        listener.wait_for(lambda it: len(it.out) >= 2 and "caught up: 2 missed messages" in it.err)
        assert [json.loads(line)["body"] for line in listener.out] == [3, 4]


def test_listener_goes_on_at_another_edge(stack: Stack, tmp_path: Path) -> None:
    """An edge that goes away is told in a line, and the next one takes over with a fresh token."""
    with _listening(stack, tmp_path, "cem") as listener:
        stack["edge-1"].kill()
        listener.wait_for(lambda it: it.welcomes() == 2)
        assert any("not connected to" in line for line in listener.err)
        run(stack, "send", "user:cem", '"after"')
        listener.wait_for(lambda it: len(it.out) == 1)
    stack["edge-1"].start()


def test_topics_and_all_are_listened_to(stack: Stack, tmp_path: Path) -> None:
    """With a token that grants what was asked for; each line has its target, and `send` takes every kind."""
    with _listening(stack, tmp_path, "tom", "--topic", "news", "--topic", "team.red") as listener:
        listener.wait_for(lambda it: {"listening to topic:news", "listening to topic:team.red"} <= set(it.err))
        done = run(stack, "send", "user:tom,topic:news,topic:team.red,topic:other,all", '"x"')
        assert (done.returncode, done.stderr) == (0, "")
        listener.wait_for(lambda it: len(it.out) == 4)
        assert {line.split("  ")[1] for line in listener.out} == {"user:tom", "topic:news", "topic:team.red", "all"}
        assert run(stack, "send", "topic:news", '"y"', "--trace").returncode == 0


def test_replaced_device_is_told_and_ends(stack: Stack, tmp_path: Path) -> None:
    """A second session of a device ends the first for good: exit code 1, and the edge's words."""
    (tmp_path / "second").mkdir()
    words = ("dan", "--edge", "2", "--device", "phone")
    with _listening(stack, tmp_path, *words) as first, _listening(stack, tmp_path / "second", *words):
        assert first.process.wait(TIMEOUT_S) == 1
        assert "(4502)" in first.err[-1]


def test_route_and_nodes_tell_who_is_where(stack: Stack, tmp_path: Path) -> None:
    """`route` names the node of an open connection, and `nodes` how many sessions it has."""
    with _listening(stack, tmp_path, "eve", "--edge", "2") as listener:
        (route,) = json.loads(run(stack, "route", "eve", "--json").stdout)
        assert route["node"] in listener.err[0]
        assert route["node_alive"]
        assert 0 < route["left_ms"] <= stack.settings.route_ttl_ms
        assert route["node"] in run(stack, "route", "eve").stdout
        nodes = {node["id"]: node for node in json.loads(run(stack, "nodes", "--json").stdout)}
        assert nodes[route["node"]]["alive"]
        assert nodes[route["node"]]["state"] == "live"
        assert "ADDRESS" in run(stack, "nodes").stdout


def test_user_without_connection_has_no_route(stack: Stack) -> None:
    """Nothing on standard output, a word on standard error, and no failure."""
    done = run(stack, "route", "nobody")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no connection is open" in done.stderr
    assert json.loads(run(stack, "route", "nobody", "--json").stdout) == []


def test_token_is_printed_alone(stack: Stack) -> None:
    """So that a shell can take it; --json tells the rest."""
    assert run(stack, "token", "alice").stdout.count(".") == 2
    issued = json.loads(run(stack, "token", "alice", "--ttl", "60", "--json").stdout)
    assert (issued["user"], set(issued)) == ("alice", {"token", "user", "jti", "expires_at"})


def test_refusal_of_auth_is_passed_on(stack: Stack, tmp_path: Path) -> None:
    """What auth does not give is said in its words; a wrong API key in ours. Exit code 1."""
    done = run(stack, "token", "alice", "--ttl", "999999")
    assert done.returncode == 1
    assert "at most 86400 seconds" in done.stderr
    wrong = tmp_path / "wrong.toml"
    another_key = "wrong" * 8
    wrong.write_text(f'api_key = "{another_key}"\nauth_url = "{stack.settings.auth_url}"\n')
    done = run(stack, "token", "alice", "--config", str(wrong))
    assert done.returncode == 1
    assert "another api_key" in done.stderr


def test_wrong_number_of_shards_is_refused(stack: Stack, tmp_path: Path) -> None:
    """A command that would look in the wrong shard says so instead; exit code 2."""
    other = tmp_path / "other.toml"
    other.write_text(f'shards = 4\nredis_url = "{stack.settings.redis_url}"\n')
    done = run(stack, "route", "alice", "--config", str(other))
    assert done.returncode == 2
    assert "push:config says shards=1" in done.stderr


def test_migrate_may_be_repeated(stack: Stack) -> None:
    """Indexes that stand already stay."""
    done = run(stack, "migrate", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"database": "pushway", "ready": True})
