"""router.settings: layers, secrets, and errors that name what is wrong."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

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


JWT: Final = {"PUSHWAY_AUTH_BY": "jwt"}
JWKS: Final = {"PUSHWAY_JWT_JWKS_URL": "https://issuer.example/jwks.json"}
KEY_FILE: Final = {"PUSHWAY_JWT_KEY_FILE": "issuer.pem"}
HTTP: Final = {"PUSHWAY_AUTH_BY": "http", "PUSHWAY_AUTH_CALLBACK_URL": "https://app.example/who"}


def test_variables_of_others_are_left_alone() -> None:
    """Only PUSHWAY_* is looked at."""
    assert load_settings(environ={"SHARDS": "9", "PATH": "/bin"}) == Settings()


@pytest.mark.parametrize("name", sorted(SECRETS))
def test_secret_may_come_from_a_file(tmp_path: Path, name: str) -> None:
    """PUSHWAY_<SECRET>_FILE gives the content without the newline at its end."""
    value = {"redis_url": "redis://u:p@host:1/0", "mongo_url": "mongodb://u:p@host"}.get(name, "s3cret" * 8)
    path = tmp_path / "secret"
    path.write_text(f"{value}\n")
    way = {"jwt_secret": {"PUSHWAY_AUTH_BY": "jwt"}, "auth_callback_secret": HTTP}.get(name, {})
    settings = load_settings(environ=way | {f"PUSHWAY_{name.upper()}_FILE": str(path)})
    assert getattr(settings, name) in {value, (value,)}


def test_several_secrets_stand_on_lines_of_their_own_or_behind_commas(tmp_path: Path) -> None:
    """The old one and the new one, while a secret is changed."""
    path = tmp_path / "secrets"
    path.write_text(f"{'a' * 32}\n{'b' * 32}\n")
    expected = ("a" * 32, "b" * 32)
    assert load_settings(environ=JWT | {"PUSHWAY_JWT_SECRET_FILE": str(path)}).jwt_secret == expected
    assert load_settings(environ=JWT | {"PUSHWAY_JWT_SECRET": ",".join(expected)}).jwt_secret == expected


@pytest.mark.parametrize(
    ("environ", "named", "said"),
    [
        ({"PUSHWAY_AUTH_BY": "ldap"}, "auth_by", "one of pushway, jwt, http"),
        ({"PUSHWAY_AUTH_BY": "jwt"}, "auth_by", "exactly one of"),
        (JWT | KEY_FILE | JWKS, "jwt_key_file", "exactly one of"),
        (JWT | JWKS | {"PUSHWAY_JWT_SECRET": "x" * 32}, "jwt_secret", "exactly one of"),
        (JWKS, "jwt_jwks_url", "does nothing unless"),
        ({"PUSHWAY_JWT_ALGORITHMS": "RS256"}, "jwt_algorithms", "does nothing unless"),
        (HTTP | {"PUSHWAY_JWT_SECRET": "x" * 32}, "jwt_secret", "does nothing unless"),
        (JWT | JWKS | {"PUSHWAY_AUTH_CALLBACK_URL": "https://a.example"}, "auth_callback_url", "does nothing unless"),
        ({"PUSHWAY_TOKEN_AUDIENCE": ""}, "token_audience", "only where auth_by"),
        (HTTP | {"PUSHWAY_TOKEN_ISSUER": ""}, "token_issuer", "only where auth_by"),
        (JWT | {"PUSHWAY_JWT_SECRET": "x" * 31}, "jwt_secret", "32 bytes"),
        (JWT | {"PUSHWAY_JWT_SECRET": f"{'x' * 32},y"}, "jwt_secret", "32 bytes"),
        (JWT | {"PUSHWAY_JWT_SECRET": "x" * 32, "PUSHWAY_JWT_ALGORITHMS": "HS256,HS512"}, "jwt_secret", "64 bytes"),
        (JWT | {"PUSHWAY_JWT_SECRET": ",".join(["x" * 32] * 9)}, "jwt_secret", "too many"),
        (JWT | {"PUSHWAY_JWT_SECRET": "ssh-rsa" + "x" * 32}, "jwt_secret", "is no secret"),
        (JWT | {"PUSHWAY_JWT_SECRET": "x" * 32, "PUSHWAY_JWT_ALGORITHMS": "RS256"}, "jwt_algorithms", "RS256 cannot be used"),
        (
            JWT | KEY_FILE | {"PUSHWAY_JWT_ALGORITHMS": "ES256,HS256"},
            "jwt_algorithms",
            "HS256 cannot be used with jwt_key_file",
        ),
        (JWT | JWKS | {"PUSHWAY_JWT_ALGORITHMS": "none"}, "jwt_algorithms", "none cannot be used"),
        (JWT | {"PUSHWAY_JWT_JWKS_URL": "file:///etc/passwd"}, "jwt_jwks_url", "https?://"),
        (JWT | {"PUSHWAY_JWT_JWKS_URL": "http://issuer.example/k"}, "jwt_jwks_url", "use https"),
        (JWT | {"PUSHWAY_JWT_JWKS_URL": "http://127.0.0.1.evil.example/k"}, "jwt_jwks_url", "use https"),
        (JWT | {"PUSHWAY_JWT_JWKS_URL": "http://169.254.169.254/latest"}, "jwt_jwks_url", "use https"),
        (JWT | {"PUSHWAY_JWT_JWKS_URL": "https://u:p@issuer.example/k"}, "jwt_jwks_url", "without user"),
        (JWT | {"PUSHWAY_JWT_JWKS_URL": "https://[::1"}, "jwt_jwks_url", "no address"),
        (JWT | {"PUSHWAY_JWT_JWKS_URL": "https:///k"}, "jwt_jwks_url", "no host"),
        ({"PUSHWAY_AUTH_BY": "http"}, "auth_callback_url", "needs it"),
        ({"PUSHWAY_AUTH_BY": "http", "PUSHWAY_AUTH_CALLBACK_URL": "http://back-end:80/"}, "auth_callback_url", "use https"),
        (HTTP | {"PUSHWAY_AUTH_CALLBACK_HEADERS": "user agent"}, "auth_callback_headers", "not the name"),
        (HTTP | {"PUSHWAY_AUTH_CALLBACK_SECRET": "a\r\nb: c"}, "auth_callback_secret", "visible"),
    ],
)
def test_settings_of_the_ways_to_authenticate_go_together(environ: dict[str, str], named: str, said: str) -> None:
    """What does not is refused at the start, and the setting is named; never a secret."""
    with pytest.raises(SettingError) as refused:
        load_settings(environ=environ)
    assert (refused.value.name, refused.value.others) == (named, ())
    assert re.search(said, str(refused.value)) or said in str(refused.value)
    assert "x" * 31 not in str(refused.value)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        JWT | JWKS,
        JWT | KEY_FILE | {"PUSHWAY_TOKEN_AUDIENCE": "", "PUSHWAY_TOKEN_ISSUER": ""},
        JWT | {"PUSHWAY_JWT_SECRET": "x" * 64, "PUSHWAY_JWT_ALGORITHMS": "HS512", "PUSHWAY_JWT_USER_CLAIM": "uid"},
        JWT | {"PUSHWAY_JWT_JWKS_URL": "http://localhost:1/k"},
        JWT | {"PUSHWAY_JWT_JWKS_URL": "http://[::1]:1/k"},
        HTTP | {"PUSHWAY_AUTH_CALLBACK_URL": "http://Back-End/", "PUSHWAY_AUTH_PLAIN_HOSTS": "back-end"},
        HTTP | {"PUSHWAY_AUTH_CALLBACK_HEADERS": "User-Agent,x-forwarded-for", "PUSHWAY_AUTH_CALLBACK_SECRET": "s" * 32},
    ],
)
def test_each_way_to_authenticate_can_be_set(environ: dict[str, str]) -> None:
    """With what belongs to it; and what `up` writes to its file is accepted again."""
    settings = load_settings(environ=environ)
    assert Settings.model_validate(settings.model_dump(mode="json")) == settings


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


@pytest.mark.parametrize(
    "content", [b"\xff", b"a = " + b"[" * 1_500, b"shards = " + b"9" * 5_000], ids=["bytes", "depth", "digits"]
)
def test_file_that_is_no_toml_in_other_ways_is_named(tmp_path: Path, content: bytes) -> None:
    """No UTF-8, nested beyond the parser's stack, or a number of more digits than Python converts."""
    config = tmp_path / "pushway.toml"
    config.write_bytes(content)
    with pytest.raises(SettingError, match="not TOML") as refused:
        load_settings(config=config, environ={})
    assert refused.value.source == str(config)


def test_secret_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    """What stands in it is not shown."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"hunter2\xff")
    with pytest.raises(SettingError, match=r"api_key \(PUSHWAY_API_KEY_FILE\).*cannot be read as text") as refused:
        load_settings(environ={"PUSHWAY_API_KEY_FILE": str(secret)})
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


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"edge_proxies": "10.0.3.1/28"}, "has host bits set"),
        ({"edge_proxies": "balancer.internal"}, "an address or a network is expected"),
        ({"edge_proxies": "10.0.3.4,0.0.0.0/0"}, "anybody could say"),
        ({"edge_proxies": "::/0"}, "anybody could say"),
        ({"edge_proxy_protocol": "1"}, "unless edge_proxies names the balancers"),
    ],
)
def test_balancers_are_named_by_their_addresses(flags: dict[str, str], said: str) -> None:
    """Names and everybody are refused, as is to await the PROXY protocol of nobody."""
    with pytest.raises(SettingError, match=said):
        load_settings(environ={}, flags=flags)
    good = load_settings(environ={}, flags={"edge_proxies": "10.0.3.4,2001:db8::/64", "edge_proxy_protocol": "1"})
    assert good.edge_proxies == ("10.0.3.4", "2001:db8::/64")
