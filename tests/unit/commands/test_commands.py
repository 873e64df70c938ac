"""router.commands: names, help, errors and exit codes, with nothing running."""

from __future__ import annotations

import inspect
import itertools
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import jwt
import pytest
from typer.testing import CliRunner, Result

from router import __version__
from router.commands import COMMANDS, app
from router.settings import ENV_PREFIX
from router.shards import keyslot


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, without anybody's settings."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)


def _run(*words: str, columns: int = 200) -> Result:
    return CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1"}).invoke(app, words)


def _process(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command that leaves something behind in its process, such as the set-up of logging."""
    command = [sys.executable, "-m", "router.commands", *words]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, check=False)


def test_version_is_printed() -> None:
    """--version says name and version."""
    done = _run("--version")
    assert (done.exit_code, done.stdout) == (0, f"pushway {__version__}\n")


def test_help_lists_every_command() -> None:
    """--help names each command with its summary."""
    done = _run("--help")
    assert done.exit_code == 0
    for name, (_, _, summary) in COMMANDS.items():
        assert name in done.stdout
        assert summary in done.stdout


def test_help_imports_no_command() -> None:
    """--help is quick because no command, driver or server library is imported for it."""
    code = (
        "import sys; from router.commands import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'redis', 'pymongo', 'httpx', 'starlette', 'uvicorn', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_summary_is_the_function_s_own(name: str) -> None:
    """What the list of commands says is the first line of the command's docstring."""
    module, function, summary = COMMANDS[name]
    doc = inspect.getdoc(getattr(import_module(f"router.commands.{module}"), function))
    assert doc is not None
    assert doc.splitlines()[0] == summary


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_shows_an_example(name: str) -> None:
    """Each --help has an example that begins with, or contains, the command itself."""
    done = _run(name, "--help")
    assert done.exit_code == 0
    example = done.stdout.partition("Example: ")[2]
    assert f"pushway {name}" in example


@pytest.mark.parametrize("words", [*((name,) for name in COMMANDS), ("dead", "list"), ()])
def test_help_names_what_is_to_be_given(words: tuple[str, ...]) -> None:
    """A switch asks for no value; a value has a name and not a type of the language; paragraphs are not broken midway."""
    lines = _run(*words, "--help", columns=1_000).stdout.splitlines()
    # Where one is required, a star stands before it.
    options = [line for line in lines if line.lstrip("│* ").startswith("--")]
    assert options
    assert not [line for line in options if re.search(r"<(bool|int|float|str|path|list)", line)]
    text = [line.strip() for line in lines[: next(n for n, line in enumerate(lines) if line.startswith("╭"))]]
    assert not [one for one, after in itertools.pairwise(text) if one and after]


@pytest.mark.parametrize("name", ["token", "send", "listen", "route", "shard", "nodes", "tap", "trace", "doctor", "migrate"])
def test_commands_for_people_have_json(name: str) -> None:
    """Machines are served too."""
    assert "--json" in _run(name, "--help").stdout


@pytest.mark.parametrize("ident", ["user:alice", "topic:a:b"])
def test_id_written_as_a_target_is_noted(ident: str) -> None:
    """It may be an id, so it is taken as one; who has meant another one is told, beside the answer."""
    done = _run("shard", ident)
    assert (done.exit_code, done.stdout) == (0, "0\n")
    assert f"ID: {ident!r} is taken as an id, which is another one than {ident.partition(':')[2]!r}" in done.stderr


@pytest.mark.parametrize("ident", ["alice", "all", "team:red", "user:"])
def test_id_that_is_no_target_is_not_noted(ident: str) -> None:
    """`all` is one for `shard`, and a colon in an id is nothing of note."""
    assert "is taken as an id" not in _run("shard", ident).stderr


def test_unknown_command_is_wrong_usage() -> None:
    """A command that does not exist is exit code 2."""
    assert _run("sned").exit_code == 2


@pytest.mark.parametrize("words", [("forget", "alice"), ("dead", "drop", "--all")])
def test_what_cannot_be_undone_is_not_done_unasked(words: tuple[str, ...]) -> None:
    """Where nobody can answer, --yes is asked for, instead of ending without a word."""
    done = _run(*words)
    assert done.exit_code == 2
    assert "--yes: is needed to" in done.stderr


@pytest.mark.parametrize("service", ["auth", "collect", "dispatch", "edge"])
def test_wrong_setting_names_itself_before_anything_starts(service: str) -> None:
    """The error is one line that says what the setting takes; exit code 2."""
    done = _run(service, "--set", "shards=0")
    assert done.exit_code == 2
    assert done.stderr.startswith("pushway: setting shards (flag): '0' is not accepted; it takes a whole number, at least 1")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--set", "shard=1"), "did you mean shards?"),
        (("--set", "shards"), "name=value is expected"),
        (("--config", "nowhere.toml"), "nowhere.toml): the file cannot be read"),
    ],
)
def test_wrong_way_to_set_is_said(words: tuple[str, ...], said: str) -> None:
    """A slip in --set or --config is one line; exit code 2."""
    done = _run("edge", *words)
    assert done.exit_code == 2
    assert said in done.stderr


def test_flags_of_the_edge_are_settings() -> None:
    """--port is edge_port, with its rule."""
    done = _run("edge", "--port", "0")
    assert done.exit_code == 2
    assert "setting edge_port (flag)" in done.stderr


def test_shard_needs_no_server() -> None:
    """The shard is computed, by the shards in the settings."""
    Path("four.toml").write_text("shards = 4\n")
    done = _run("shard", "alice", "--config", "four.toml")
    assert (done.exit_code, done.stdout) == (0, f"{keyslot('alice') % 4}\n")
    answer = json.loads(_run("shard", "alice", "--config", "four.toml", "--json").stdout)
    assert answer == {"id": "alice", "shard": keyslot("alice") % 4, "shards": 4, "slot": keyslot("alice")}


def test_people_s_commands_find_the_file_in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """./.pushway/pushway.toml is found; PUSHWAY_CONFIG and --config come before it."""
    Path(".pushway").mkdir()
    for name, number in ((".pushway/pushway.toml", 1_000), ("variable.toml", 999), ("flag.toml", 998)):
        Path(name).write_text(f"shards = {number}\n")

    def shards(*words: str) -> int:
        return int(json.loads(_run("shard", "alice", "--json", *words).stdout)["shards"])

    assert shards() == 1_000
    monkeypatch.setenv("PUSHWAY_CONFIG", "variable.toml")
    assert shards() == 999
    assert shards("--config", "flag.toml") == 998


@pytest.mark.parametrize("words", [("shard", "alice"), ("token", "alice"), ("listen", "alice")])
def test_command_without_settings_says_where_it_looked(words: tuple[str, ...]) -> None:
    """In a folder without settings, the defaults are not taken in silence."""
    said = _run(*words).stderr
    assert "PUSHWAY_CONFIG is not set, and there is no .pushway/pushway.toml in this folder" in said
    assert "--config DIR/.pushway/pushway.toml" in said


def test_settings_from_the_environment_need_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets variables has no file in mind."""
    monkeypatch.setenv("PUSHWAY_SHARDS", "4")
    assert _run("shard", "alice").stderr == ""


def test_services_do_not_look_into_the_folder() -> None:
    """Where a service is started makes no difference to it."""
    Path(".pushway").mkdir()
    Path(".pushway/pushway.toml").write_text("no such = toml")
    done = _process("auth")
    assert done.returncode == 2
    assert "neither api_key nor api_keys_file is set" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("alice", "{}"), "to: 'alice' is not a target"),
        (("user:a b", "{}"), "is not an id"),
        (("user:alice", "hello"), "BODY: is not JSON"),
        (("user:alice", "hello"), "add --text"),
        (("user:alice", "{}", "--id", "a b"), "id: 'a b' is not an id"),
        (("user:alice", "{}", "--ttl", "0"), "ttl: '0' is not a whole number"),
        (("user:alice", "x" * 70_000, "--text"), "text: longer than 65536 bytes"),
        (("user:alice", "\udcff", "--text"), "text: is not UTF-8"),
    ],
)
def test_send_refuses_what_collect_would(words: tuple[str, ...], said: str) -> None:
    """The producer's rules hold before anything is appended; exit code 2."""
    done = _run("send", *words)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize("name", ["token", "route", "listen"])
def test_user_must_be_an_id(name: str) -> None:
    """A user that cannot exist is wrong usage."""
    done = _run(name, "a b")
    assert done.exit_code == 2
    assert "USER: 'a b' is not an id" in done.stderr


@pytest.mark.parametrize("edge", ["0", "2", "one", "http://host"])
def test_listen_takes_an_edge_that_there_is(edge: str) -> None:
    """--edge is a number of edge_urls or a WebSocket address."""
    done = _run("listen", "alice", "--edge", edge)
    assert done.exit_code == 2
    assert "--edge: a number from 1 to 1" in done.stderr


@pytest.mark.parametrize("name", ["token", "listen"])
def test_without_api_key_the_setting_is_named(name: str) -> None:
    """What is missing is a setting, so it is exit code 2."""
    done = _run(name, "alice")
    assert done.exit_code == 2
    assert "setting api_key" in done.stderr


@pytest.mark.parametrize("words", [("route", "alice"), ("nodes",), ("send", "user:alice", "{}")])
def test_redis_away_is_one_line_with_advice(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback: where Redis was looked for, without the password, and what to try; exit code 1."""
    monkeypatch.setenv("PUSHWAY_REDIS_URL", "redis://user:hunter2@127.0.0.1:1/0")
    done = _run(*words)
    assert done.exit_code == 1
    assert done.stderr == (
        "pushway: Redis at 127.0.0.1:1 cannot be reached (Connection refused; set by redis_url): is `scripts/up` running?\n"
    )


def test_auth_away_is_one_line_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Redis."""
    monkeypatch.setenv("PUSHWAY_API_KEY", "hunter2" * 5)
    monkeypatch.setenv("PUSHWAY_AUTH_URL", "http://127.0.0.1:1")
    done = _run("token", "alice")
    assert done.exit_code == 1
    assert done.stderr.startswith("pushway: auth at http://127.0.0.1:1 cannot be reached (")
    assert done.stderr.endswith("; set by auth_url): is `scripts/up` running?\n")
    assert done.stderr.count("\n") == 1


def test_store_away_is_one_line_with_advice() -> None:
    """As with Redis. In a process of its own, because the driver leaves sockets to the end of its process."""
    away = {"PUSHWAY_MONGO_URL": "mongodb://user:hunter2@127.0.0.1:1", "PUSHWAY_MONGO_TIMEOUT_S": "0.2"}
    done = _process("migrate", **away)
    assert done.returncode == 1
    assert done.stderr == (
        "pushway: MongoDB at 127.0.0.1:1 cannot be reached (Connection refused; set by mongo_url): is `scripts/up` running?\n"
    )


@pytest.mark.parametrize("name", ["list", "show", "retry", "drop"])
def test_dead_has_commands_of_its_own(name: str) -> None:
    """Each with an example, and for machines."""
    shown = _run("dead", name, "--help").stdout
    assert f"pushway dead {name}" in shown.partition("Example: ")[2]
    assert "--json" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "--source", "inn"), "--source: 'inn' is not one of in, out, fast"),
        (("list", "--since", "yesterday"), "--since: 'yesterday' is not an age like 90s, 10m, 2h or 7d"),
        (("retry",), "give either ids, as `pushway dead list` prints them, or --all"),
        (("retry", "1-0", "--all"), "give either ids"),
        (("retry", "1-0", "--source", "in"), "--source: is for --all"),
        (("retry", "1-0", "--set", "to"), "--set: 'to' is not FIELD=VALUE"),
        (("drop", "--all"), "--yes: is needed to drop all dead letters where nobody can be asked"),
    ],
)
def test_dead_says_what_it_takes(words: tuple[str, ...], said: str) -> None:
    """Wrong usage is one line, and nothing is asked of Redis; exit code 2."""
    done = _run("dead", *words)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "exactly one of"),
        (("alice", "--all"), "exactly one of"),
        (("--jti", "t", "--token", "t"), "exactly one of"),
        (("--jti", "t", "--before", "5"), "--before: a single token"),
        (("alice", "--before", "9999999999"), "before: 9999999999 is in the future"),
        (("a b",), "USER: "),
        (("--jti", "x" * 257), "jti: "),
        (("--token", "nonsense"), "--token: this is no JSON Web Token"),
        (("--token", jwt.encode({"exp": 1}, "k" * 32, algorithm="HS256")), "the token has no id (jti)"),
        (("--token", jwt.encode({"jti": "t"}, "k" * 32, algorithm="HS256")), "--token: this is no JSON Web Token"),
    ],
)
def test_what_cannot_be_revoked(words: tuple[str, ...], said: str) -> None:
    """It says which argument is wrong, and nothing is asked of anybody."""
    done = _run("revoke", *words)
    assert done.exit_code == 2
    assert said in done.output
