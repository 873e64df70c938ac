"""No service starts with a secret that is empty, short or somebody else's too; and no example has one that could be used."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from typer.testing import CliRunner

from router.auth.service import serve as serve_auth
from router.collect.service import serve as serve_collect
from router.commands import app, services
from router.errors import SettingError, SetupError
from router.ops import Health
from router.settings import ENV_PREFIX, SECRETS, Settings, load_settings
from router.up.folder import kept

ROOT: Final = Path(__file__).parents[2]
SERVICES: Final = ("auth", "collect", "dispatch", "edge")

JWT: Final = {"PUSHWAY_AUTH_BY": "jwt"}
HTTP: Final = {"PUSHWAY_AUTH_BY": "http", "PUSHWAY_AUTH_CALLBACK_URL": "https://login.example/"}

UNFIT: Final[dict[str, list[tuple[dict[str, str], str, str]]]] = {
    "api_key": [({}, "k" * 31, "32 characters"), ({}, "a key with blanks in it, though it is long", "visible")],
    "auth_callback_secret": [(HTTP, "s" * 31, "32 characters")],
    "jwt_secret": [(JWT, "s" * 31, "32 bytes"), (JWT, "", "exactly one of")],
    "redis_url": [({}, "redis://user:@127.0.0.1:6390/0", "empty password")],
    "mongo_url": [({}, "mongodb://user:@127.0.0.1:27090/", "empty password")],
}
"""Secret → settings beside it, a value, and what is said of it."""

_ASSIGNED: Final = re.compile(
    r"""(?:api_key|jwt_secret|auth_callback_secret|API_KEY|JWT_SECRET|CALLBACK_SECRET)["']?\s*[=:]\s*(?:\[\s*)?["']([^"']*)["']"""
)
_PASSWORD: Final = re.compile(r"(?:rediss?|mongodb(?:\+srv)?)://[^\s/:@]*:([^\s@/]+)@")
_KEY: Final = re.compile(
    r"pwk_[\w-]{43}|-----BEGIN [A-Z ]*PRIVATE KEY-----\n[A-Za-z0-9+/]{40}|\beyJ[\w-]{20,}\.[\w-]{20,}\.[\w-]{20,}"
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)


def test_each_secret_has_a_rule() -> None:
    """One that joins them is to be thought of here."""
    assert UNFIT.keys() == SECRETS


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("name", "beside", "value", "said"), [(name, *each) for name, all_ in UNFIT.items() for each in all_])
def test_no_service_starts_with_an_unfit_secret(
    service: str, name: str, beside: dict[str, str], value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that does not use it: they share their settings. The error names setting and rule, and not the value."""
    started: list[str] = []

    def run(name: str, *_: object) -> int:
        started.append(name)
        return 0

    monkeypatch.setattr(services, "run", run)
    done = CliRunner(env=beside | {f"PUSHWAY_{name.upper()}": value}).invoke(app, [service])
    assert (done.exit_code, started) == (2, [])
    assert name in done.stderr
    assert said in done.stderr
    assert not value or value not in done.stderr


@pytest.mark.parametrize("serve", [serve_auth, serve_collect])
def test_who_answers_back_ends_does_not_start_without_a_key(serve: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """There is none unless somebody sets it, and nothing has been opened or made when that is told."""
    settings = Settings(auth_key_file=tmp_path / "key.pem")
    with pytest.raises(SetupError, match=r"neither api_key nor api_keys_file is set.*32 characters"):
        anyio.run(serve, settings, Health(), anyio.Event())
    assert list(tmp_path.iterdir()) == []


def test_an_edge_needs_a_shared_secret_only_where_one_is_shared() -> None:
    """With keys that auth or an issuer publishes there is none to guess, and dispatch has none at all."""
    assert {name: Settings.model_fields[name].default for name in SECRETS if "url" not in name} == {
        "api_key": "",
        "auth_callback_secret": "",
        "jwt_secret": (),
    }
    with pytest.raises(SettingError, match="exactly one of"):
        load_settings(environ=JWT)


@pytest.mark.parametrize("before", [None, 'api_key = ""\n', 'api_key = "short"\n'])
def test_up_makes_a_key_of_its_own(tmp_path: Path, before: str | None) -> None:
    """Another in each folder, and a fit one though an unfit one was there."""
    config = tmp_path / "pushway.toml"
    if before is not None:
        config.write_text(before)
    keys = {kept(config).api_key for _ in range(3)}
    assert len(keys) == 3
    for key in keys:
        load_settings(environ={"PUSHWAY_API_KEY": key})


def _examples() -> list[Path]:
    places = (ROOT / "README.md", *(ROOT / "docs").rglob("*"), *(ROOT / "deploy").rglob("*"))
    return sorted(path for path in places if path.is_file() and path.suffix not in {".png", ".svg"})


@pytest.mark.parametrize("path", _examples(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_example_has_a_secret_that_could_be_used(path: Path) -> None:
    """Whoever types it as it stands is refused, or has to put something there."""
    text = path.read_text(encoding="utf-8")
    assert not _KEY.search(text)
    assert [value for value in _PASSWORD.findall(text) if value != "…" and "$" not in value] == []
    for value in _ASSIGNED.findall(text):
        if value and "$" not in value:
            with pytest.raises(SettingError):
                load_settings(environ={"PUSHWAY_API_KEY": value})
