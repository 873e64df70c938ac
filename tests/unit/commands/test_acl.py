"""`pushway acl`: an ACL file, and passwords that nobody else reads."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from router.commands import app
from router.redis_users import USERS, acl_lines

NAMES = {user.name for user in USERS}


def _run(*words: str) -> str:
    done = CliRunner().invoke(app, ["acl", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PUSHWAY_REDIS_URL", "rediss://someone:else@db.example.com:6380/2?ssl_ca_certs=ca.pem")


def test_without_passwords_nobody_can_log_in() -> None:
    """It is the file in deploy/redis for the usual prefix."""
    assert _run().splitlines() == list(acl_lines("push"))


def test_users_of_another_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant's users touch nothing of `push`."""
    monkeypatch.setenv("PUSHWAY_PREFIX", "shop")
    text = _run()
    assert "shop:{*}:in" in text
    assert "push:" not in text


def test_passwords_are_kept(tmp_path: Path) -> None:
    """Each user's address has one that is long, readable by its owner alone, and the same the next time."""
    folder = tmp_path / "redis"
    first = _run("--passwords", str(folder))
    assert first == _run("--passwords", str(folder))
    assert {file.stem for file in folder.iterdir()} == NAMES
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        parts = urlsplit(file.read_text(encoding="utf-8").strip())
        assert (parts.username, parts.hostname, parts.path) == (file.stem, "db.example.com", "/2")
        assert parts.query == "ssl_ca_certs=ca.pem"
        password = parts.password or ""
        assert len(password) > 40
        digest = hashlib.sha256(password.encode()).hexdigest()
        assert f"user {file.stem} on #{digest} " in first
        assert password not in first


def test_an_address_without_a_password_is_not_taken(tmp_path: Path) -> None:
    """Nor replaced: somebody put it there."""
    (tmp_path / "pushway-auth.url").write_text("redis://db/0", encoding="utf-8")
    done = CliRunner().invoke(app, ["acl", "--passwords", str(tmp_path)])
    assert done.exit_code == 2
    assert "pushway-auth.url" in done.output


def test_json_is_a_line_a_user() -> None:
    """For programs; `default` is first, and off."""
    told = json.loads(_run("--json"))
    assert told[0] == {"user": "default", "line": "user default off resetchannels -@all"}
    assert {one["user"] for one in told} == NAMES | {"default"}
