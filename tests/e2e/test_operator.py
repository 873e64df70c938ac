"""The commands for operators, as they are typed, against all of Pushway."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.e2e.command_line import HEARS_CTRL_C, PUSHWAY, TIMEOUT_S, run
from tests.servers import wait_until
from tests.stack import Stack

SETTINGS = {"drain_timeout_s": 0.1, "node_ttl_ms": 1_500, "probe_quiet_ms": 300}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, with edges that are probed often, and count as dead soon."""
    with Stack(tmp_path_factory.mktemp("stack"), settings=SETTINGS) as running:
        yield running


class Running:
    """A command that runs, with what it has printed so far."""

    def __init__(self, stack: Stack, folder: Path, *words: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / "out", folder / "err"
        with self._out.open("w") as out, self._err.open("w") as err:
            command = [*HEARS_CTRL_C, *PUSHWAY, *words, "--config", str(stack.config)]
            self.process = subprocess.Popen(command, stdout=out, stderr=err)

    @property
    def out(self) -> list[str]:
        """The lines on standard output."""
        return self._out.read_text().splitlines()

    @property
    def err(self) -> str:
        """What stands on standard error."""
        return self._err.read_text()


@contextmanager
def _running(stack: Stack, folder: Path, *words: str, until: str) -> Iterator[Running]:
    running = Running(stack, folder, *words)
    try:
        wait_until(lambda: until in running.err, f"{words} says {until}")
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def _listening(stack: Stack, folder: Path, user: str, edge: int) -> AbstractContextManager[Running]:
    return _running(stack, folder / user, "listen", user, "--edge", str(edge), until="listening as")


def _tapping(stack: Stack, folder: Path, *words: str) -> AbstractContextManager[Running]:
    return _running(stack, folder, "tap", *words, until="listening to")


def _node(stack: Stack, name: str) -> str:
    nodes = json.loads(run(stack, "nodes", "--json").stdout)
    return next(str(node["id"]) for node in nodes if node["id"].startswith(f"{name}.") and node["alive"])


def _append(stack: Stack, target: str, *texts: str) -> None:
    with stack.redis_client() as redis:
        for text in texts:
            redis.xadd("push:{0}:in", {"to": target, "text": text})


def test_tap_shows_what_a_node_gets(stack: Stack, tmp_path: Path) -> None:
    """A line a message, of that node and target alone; the frame is the client's; Ctrl-C is a good end."""
    with (
        _listening(stack, tmp_path, "ann", 1),
        _listening(stack, tmp_path, "ben", 1),
        _listening(stack, tmp_path, "cem", 2),
        _tapping(stack, tmp_path / "tap", "edge-1", "--target", "user:ann") as tap,
        _tapping(stack, tmp_path / "json", _node(stack, "edge-1"), "--json") as machine,
    ):
        _append(stack, "user:ben,user:cem,user:ann", "one\ntwo")
        wait_until(lambda: bool(tap.out) and len(machine.out) == 2, "both have printed")
        (line,) = tap.out
        assert "  user:ann  " in line
        assert line.endswith(r'"text":"one\ntwo"}')
        told = {one["target"]: one for one in map(json.loads, machine.out)}
        assert told.keys() == {"user:ann", "user:ben"}
        frame = told["user:ben"]["frame"]
        assert (frame["type"], frame["text"], str(frame["seq"])) == ("message", "one\ntwo", told["user:ben"]["seq"])
        for running in (tap, machine):
            running.process.send_signal(signal.SIGINT)
            assert running.process.wait(TIMEOUT_S) == 0


def test_tap_ends_after_a_count_of_probes(stack: Stack, tmp_path: Path) -> None:
    """A quiet node has nothing but its own probes, which are shown when they are asked for."""
    with _tapping(stack, tmp_path, "edge-2", "--probes", "--count", "2") as tap:
        assert tap.process.wait(TIMEOUT_S) == 0
        assert [line.split()[1] for line in tap.out] == ["probe", "probe"]


def test_tap_of_no_node_lists_the_nodes(stack: Stack) -> None:
    """Nothing is guessed where there are two."""
    for words in (("tap",), ("tap", "edge-9")):
        done = run(stack, *words)
        assert done.returncode == 1
        assert _node(stack, "edge-1") in done.stderr
        assert _node(stack, "edge-2") in done.stderr


def test_stopped_tap_ends_instead(stack: Stack, tmp_path: Path) -> None:
    """Ctrl-Z would leave a subscriber behind that cannot look after the node."""
    with _tapping(stack, tmp_path, "edge-2") as tap:
        tap.process.send_signal(signal.SIGTSTP)
        assert tap.process.wait(TIMEOUT_S) == 0
        assert "has ended instead" in tap.err


def _offline(stack: Stack, user: str) -> list[str]:
    with stack.redis_client() as redis:
        reports = [fields for _, fields in redis.xrange("push:{0}:offline")]
    return [fields[b"reason"].decode() for fields in reports if fields[b"to"] == f"user:{user}".encode()]


@pytest.mark.parametrize("death", ["killed", "frozen"])
def test_taps_do_not_keep_a_dead_node_s_routes(stack: Stack, tmp_path: Path, death: str) -> None:
    """Both leave an edge that is gone, and what comes for its people is reported and drops their routes, as without them."""
    user, edge = f"dan-{death}", stack["edge-1"]
    with (
        _listening(stack, tmp_path, user, 1),
        _tapping(stack, tmp_path / "1", "edge-1") as first,
        _tapping(stack, tmp_path / "2", "edge-1") as second,
        stack.redis_client() as redis,
    ):
        node, route = _node(stack, "edge-1"), f"push:{{0}}:route:{user}"
        assert redis.zscore(route, node)
        edge.kill() if death == "killed" else edge.pause()
        assert [tap.process.wait(TIMEOUT_S) for tap in (first, second)] == [1, 1]
        assert redis.execute_command("PUBSUB", "SHARDNUMSUB", f"push:{{0}}:node:{node}")[1] == (death == "frozen")
        assert ("not subscribed" if death == "killed" else "lapsed") in first.err
        if death == "killed":
            # Mostly before its heartbeat lapses, when only an empty channel tells of it.
            _append(stack, f"user:{user}", "into the void")
            wait_until(lambda: _offline(stack, user) in (["nobody_listening"], ["node_lapsed"]), "it is reported")
            wait_until(lambda: not redis.zscore("push:{0}:nodes", node), "the node is gone")
            _append(stack, f"user:{user}", "once more")
            wait_until(lambda: redis.zscore(route, node) is None, "the route is dropped")
        else:
            edge.resume()
            edge.kill()
    edge.start()


def test_dead_letter_is_mended_and_delivered(stack: Stack, tmp_path: Path) -> None:
    """It is listed with its reason, refused while it would die again, and delivered once a field is set right."""
    with _listening(stack, tmp_path, "eve", 2) as listener, stack.redis_client() as redis:
        _append(stack, "eve", "lost and found")
        wait_until(lambda: redis.xlen("push:{0}:dead") == 1, "it is dead")
        (letter,) = json.loads(run(stack, "dead", "list", "--source", "in", "--since", "1h", "--json").stdout)
        assert (letter["source"], letter["fields"]) == ("in", [["to", "eve"], ["text", "lost and found"]])
        assert "'eve' is not a target" in run(stack, "dead", "list").stdout
        assert "lost and found" in run(stack, "dead", "show", letter["id"]).stdout
        refused = run(stack, "dead", "retry", "--all")
        assert refused.returncode == 1
        assert "would die again: to: 'eve' is not a target" in refused.stderr
        done = run(stack, "dead", "retry", letter["id"], "--set", "to=user:eve")
        assert done.returncode == 0, done.stderr
        wait_until(lambda: any("lost and found" in line for line in listener.out), "it is delivered")
        assert redis.xlen("push:{0}:dead") == 0
        assert run(stack, "dead", "show", letter["id"]).returncode == 1


def test_dead_letters_are_dropped(stack: Stack) -> None:
    """One by its id, or all of them when that is said twice."""
    _append(stack, "nobody", *map(str, range(5)))
    with stack.redis_client() as redis:
        wait_until(lambda: redis.xlen("push:{0}:dead") == 5, "all are dead")
        (newest,) = json.loads(run(stack, "dead", "list", "--limit", "1", "--json").stdout)
        assert run(stack, "dead", "drop", newest["id"]).returncode == 0
        assert run(stack, "dead", "drop", newest["id"]).returncode == 1
        assert run(stack, "dead", "drop", "--all").returncode == 2
        done = run(stack, "dead", "drop", "--all", "--yes", "--json")
        assert (done.returncode, len(json.loads(done.stdout)), redis.xlen("push:{0}:dead")) == (0, 4, 0)


def test_doctor_finds_nothing_until_something_is_broken(tmp_path: Path) -> None:
    """All that `up` runs is well; what is then broken is told with its remedy, by an exit code as well."""
    with Stack(tmp_path, settings=SETTINGS | {"api_key": "k" * 32}) as stack, stack.redis_client() as redis:
        well = run(stack, "doctor")
        assert (well.returncode, well.stdout.splitlines()[-1]) == (0, "Nothing to do."), well.stdout
        assert "edge-2." in well.stdout
        stack["dispatch"].stop()
        stack["auth"].kill()
        # Both: where one lives, it removes what is left of the other.
        for name in ("edge-1", "edge-2"):
            stack[name].pause()
        redis.xadd("app:push:{0}:in", {"to": "user:ann", "text": "astray"})
        wait_until(lambda: "has not been heard from" in run(stack, "doctor").stdout, "the frozen edges are told of")
        done = run(stack, "doctor", "--json")
    found = [finding for one in json.loads(done.stdout) for finding in one["findings"]]
    assert done.returncode == 2
    for said in ("nobody works on shard 0 as dispatch", "edge-1.", "auth at", "app:push:{0}:in has 1 entry"):
        assert [one for one in found if said in one["seen"] and one["severity"] in {"warning", "error"} and one["remedy"]]


def test_doctor_names_what_is_wrong_in_the_settings(tmp_path: Path) -> None:
    """All of it, as findings; exit code 2."""
    (tmp_path / "wrong.toml").write_text("shards = 0\nno_such = 1\n")
    command = [*PUSHWAY, "doctor", "--json", "--config", str(tmp_path / "wrong.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    ((group, findings),) = [(one["group"], one["findings"]) for one in json.loads(done.stdout)]
    assert (done.returncode, group) == (2, "settings")
    assert {one["seen"].partition(" ")[0] for one in findings} == {"shards", "no_such"}
