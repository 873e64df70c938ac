"""pushway keys: making, listing, changing and dropping API keys."""

from __future__ import annotations

import json
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from router.api_keys.file import read_keys
from router.api_keys.key import digest_of, read_time
from router.commands import app
from router.settings import ENV_PREFIX


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in an empty folder, with a file of keys that is not there yet."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)
    path = tmp_path / "keys.toml"
    monkeypatch.setenv("PUSHWAY_API_KEYS_FILE", str(path))
    return path


def _run(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "200", "NO_COLOR": "1"}).invoke(app, ["keys", *words])


def test_key_is_printed_once_and_kept_as_its_hash(path: Path) -> None:
    """On standard output there is nothing else, so that it can be taken from there; the file is its owner's alone."""
    done = _run("make", "billing", "--scope", "send", "--scope", "read")
    assert done.exit_code == 0
    secret = done.stdout.strip()
    (key,) = read_keys(path)
    assert (key.name, key.digest, set(key.scopes), key.expires_at) == ("billing", digest_of(secret), {"send", "read"}, None)
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "billing may send, read; ends: never" in done.stderr


@pytest.mark.parametrize(("expires", "after"), [("90d", timedelta(days=90)), ("2h", timedelta(hours=2))])
def test_key_may_end(path: Path, expires: str, after: timedelta) -> None:
    """After a while, or at a time."""
    before = datetime.now(UTC).replace(microsecond=0)
    assert _run("make", "billing", "--scope", "send", "--expires", expires).exit_code == 0
    (key,) = read_keys(path)
    assert key.expires_at is not None
    assert before + after <= key.expires_at <= datetime.now(UTC) + after
    assert _run("make", "shop", "--scope", "send", "--expires", "2999-01-01T00:00:00Z").exit_code == 0
    assert read_keys(path)[1].expires_at == read_time("2999-01-01T00:00:00Z")


def test_list_shows_no_secret(path: Path) -> None:
    """Names, scopes, ends, and the begin of the hash."""
    secret = _run("make", "billing", "--scope", "send").stdout.strip()
    listed = _run("list")
    digest = digest_of(secret).hex()
    assert listed.stdout.split() == ["NAME", "SCOPES", "ENDS", "HASH", "billing", "send", "never", digest[:8]]
    assert json.loads(_run("list", "--json").stdout) == [
        {"name": "billing", "scopes": ["send"], "expires_at": None, "expired": False, "hash": digest[:8]}
    ]
    assert secret not in listed.output
    path.write_text("")
    assert _run("list").stderr == "there is no key\n"


def test_rotation_prints_the_new_key_and_ends_the_old_one_later(path: Path) -> None:
    """Both are good meanwhile, and named alike."""
    first = _run("make", "billing", "--scope", "send").stdout.strip()
    done = _run("rotate", "billing", "--overlap", "24h", "--json")
    told = json.loads(done.stdout)
    old, new = read_keys(path)
    assert (old.digest, new.digest, told["scopes"]) == (digest_of(first), digest_of(told["key"]), ["send"])
    assert old.expires_at is not None
    assert timedelta(hours=23) < old.expires_at - datetime.now(UTC) <= timedelta(hours=24)
    assert _run("list").stdout.splitlines()[1].split()[2:4] == ["in", "24h"]


def test_drop_ends_a_name(path: Path) -> None:
    """And says how many that were."""
    _run("make", "billing", "--scope", "send")
    _run("rotate", "billing")
    done = _run("drop", "billing")
    assert (done.exit_code, done.stderr) == (0, "2 of billing dropped\n")
    assert read_keys(path) == ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("make", "billing"), "--scope"),
        (("make", "billing", "--scope", "all"), "--scope: 'all' is none of send, read, manage, tokens"),
        (("make", "a b", "--scope", "send"), "'a b' is no name of a key"),
        (("make", "there", "--scope", "send"), "keys rotate there"),
        (("make", "x", "--scope", "send", "--expires", "soon"), "--expires: 'soon' is not an age"),
        (("make", "x", "--scope", "send", "--expires", "2020-01-01T00:00:00Z"), "is over"),
        (("rotate", "there", "--overlap", "-1h"), "--overlap: '-1h' is not an age"),
        (("rotate", "nobody"), "no key of 'nobody'"),
        (("drop", "nobody"), "no key of 'nobody'"),
        (("drop", "there", "--hash", "zz"), "no key of 'there' has the hash 'zz'"),
        (("list", "--file", "nowhere.toml"), "nowhere.toml: No such file"),
        (("make", "x", "--scope", "send", "--file", "nowhere/keys.toml"), "No such file"),
    ],
)
def test_what_cannot_be_done_is_told(words: tuple[str, ...], said: str, path: Path) -> None:
    """Exit code 2, and the file stays as it is."""
    _run("make", "there", "--scope", "send")
    before = path.read_bytes()
    done = _run(*words)
    assert done.exit_code == 2
    assert said in done.stderr
    assert path.read_bytes() == before


def test_broken_file_is_not_written_over(path: Path) -> None:
    """Somebody's slip would cost all keys in it."""
    path.write_text("[[key]]\n")
    done = _run("make", "billing", "--scope", "send")
    assert (done.exit_code, path.read_text()) == (2, "[[key]]\n")
    assert f"{path}: key 1: " in done.stderr


def test_without_a_file_the_setting_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has a file of keys unasked."""
    monkeypatch.delenv("PUSHWAY_API_KEYS_FILE")
    done = _run("list")
    assert done.exit_code == 2
    assert "setting api_keys_file" in done.stderr
