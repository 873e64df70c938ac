"""router.settings: layers, secrets, and errors that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from router.errors import SettingError
from router.settings import SECRETS, Settings, accepted_values, load_settings


def _toml(folder: Path, text: str) -> Path:
    path = folder / "pushway.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_accepted() -> None:
    """Without any source the defaults are in force."""
    assert load_settings(environ={}) == Settings()


def test_later_layer_wins(tmp_path: Path) -> None:
    """Flags over variables over the file over the defaults, setting by setting."""
    config = _toml(tmp_path, "shards = 2\nedge_port = 2\nauth_port = 2\n")
    settings = load_settings(
        config=config,
        environ={"PUSHWAY_EDGE_PORT": "3", "PUSHWAY_AUTH_PORT": "3"},
        flags={"auth_port": "4", "api_port": None},
    )
    assert (settings.shards, settings.edge_port, settings.auth_port) == (2, 3, 4)
    assert settings.api_port == Settings().api_port


def test_config_variable_names_the_file(tmp_path: Path) -> None:
    """PUSHWAY_CONFIG is used unless a file is given."""
    config = _toml(tmp_path, "shards = 2\n")
    environ = {"PUSHWAY_CONFIG": str(config)}
    assert load_settings(environ=environ).shards == 2
    other = tmp_path / "other.toml"
    other.write_text("shards = 3\n")
    assert load_settings(config=other, environ=environ).shards == 3


def test_variables_of_others_are_left_alone() -> None:
    """Only PUSHWAY_* is looked at."""
    assert load_settings(environ={"SHARDS": "9", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_secret_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    """PUSHWAY_<SECRET>_FILE gives the content without the newline at its end."""
    value = {"redis_url": "redis://u:p@host:1/0", "mongo_url": "mongodb://u:p@host"}.get(name, "s3cret")
    path = tmp_path / "secret"
    path.write_text(f"{value}\n")
    settings = load_settings(environ={f"PUSHWAY_{name.upper()}_FILE": str(path)})
    assert getattr(settings, name) == value


def test_setting_whose_name_ends_in_file_is_itself(tmp_path: Path) -> None:
    """auth_key_file is a setting of its own, not a file that holds one."""
    assert load_settings(environ={"PUSHWAY_AUTH_KEY_FILE": str(tmp_path / "k")}).auth_key_file == tmp_path / "k"


def test_missing_secret_file_is_named(tmp_path: Path) -> None:
    """The error names the setting, the variable and the file."""
    with pytest.raises(SettingError, match=r"api_key \(PUSHWAY_API_KEY_FILE\).*nowhere cannot be read"):
        load_settings(environ={"PUSHWAY_API_KEY_FILE": str(tmp_path / "nowhere")})


def test_lists_come_with_commas_or_as_lists(tmp_path: Path) -> None:
    """A variable gives a list as a,b; a file as a list."""
    environ = {"PUSHWAY_EDGE_URLS": "ws://a,ws://b"}
    assert load_settings(environ=environ).edge_urls == ("ws://a", "ws://b")
    config = _toml(tmp_path, 'edge_urls = ["ws://a", "ws://b"]\n')
    assert load_settings(config=config, environ={}).edge_urls == ("ws://a", "ws://b")


@pytest.mark.parametrize(
    ("environ", "flags", "source"),
    [
        ({"PUSHWAY_SHARD": "1"}, {}, "PUSHWAY_SHARD"),
        ({}, {"shard": "1"}, "flag"),
        ({"PUSHWAY_NODE_FILE": "x"}, {}, "PUSHWAY_NODE_FILE"),
    ],
)
def test_unknown_name_is_refused(environ: dict[str, str], flags: dict[str, str], source: str) -> None:
    """A name that does not exist is an error that says where it came from."""
    with pytest.raises(SettingError, match="there is no such setting") as refused:
        load_settings(environ=environ, flags=flags)
    assert refused.value.source == source


def test_unknown_name_gets_a_suggestion(tmp_path: Path) -> None:
    """A slip of the pen is pointed out."""
    with pytest.raises(SettingError, match="did you mean shards"):
        load_settings(config=_toml(tmp_path, "shard = 1\n"), environ={})


@pytest.mark.parametrize(
    ("name", "value", "accepts"),
    [
        ("shards", "0", "a whole number, at least 1, at most 1,024"),
        ("shards", "many", "a whole number"),
        ("lease_ms", "10", "at least 500"),
        ("redis_timeout_s", "0", "a number, above 0"),
        ("redis_url", "http://host", "redis|rediss|unix"),
        ("log_level", "loud", "one of debug, info, warning, error"),
        ("edge_port", "70000", "at most 65,535"),
    ],
)
def test_wrong_value_names_itself_and_what_is_accepted(name: str, value: str, accepts: str) -> None:
    """The error says setting, source and what it takes."""
    with pytest.raises(SettingError) as refused:
        load_settings(environ={f"PUSHWAY_{name.upper()}": value})
    assert refused.value.name == name
    assert refused.value.source == f"PUSHWAY_{name.upper()}"
    assert accepts in str(refused.value)


def test_all_that_is_wrong_is_named_at_once() -> None:
    """Unknown names and refused values, each with its source."""
    with pytest.raises(SettingError) as refused:
        load_settings(environ={"PUSHWAY_SHARDS": "0", "PUSHWAY_SHARD": "1"}, flags={"lease_ms": "soon"})
    assert [error.name for error in (refused.value, *refused.value.others)] == ["shard", "shards", "lease_ms"]
    assert str(refused.value).count("\n  and setting ") == 2


def test_wrong_secret_is_not_shown() -> None:
    """An error never prints what may be a password."""
    with pytest.raises(SettingError) as refused:
        load_settings(environ={"PUSHWAY_REDIS_URL": "redsi://user:hunter2@host"})
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(("text", "problem"), [("shards =", "not TOML"), (None, "cannot be read")])
def test_unreadable_file_is_named(tmp_path: Path, text: str | None, problem: str) -> None:
    """A config file that is missing or broken is an error that names it."""
    config = tmp_path / "pushway.toml" if text is None else _toml(tmp_path, text)
    with pytest.raises(SettingError, match=problem) as refused:
        load_settings(config=config, environ={})
    assert refused.value.source == str(config)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_says_what_it_accepts(name: str) -> None:
    """Each has words for errors and the manual."""
    assert accepted_values(name)


@pytest.mark.parametrize("name", ["retention_s", "ack_idle_s"])
def test_cursors_outlive_messages(name: str) -> None:
    """A device that comes back late is told what it lost: it must not be forgotten before its messages are."""
    with pytest.raises(SettingError, match=r"cursor_idle_s.*longer than retention_s and ack_idle_s together"):
        load_settings(environ={}, flags={name: 31_536_000})
    assert load_settings(environ={}, flags={name: 31_536_000, "cursor_idle_s": 4e7}).cursor_idle_s == 4e7
