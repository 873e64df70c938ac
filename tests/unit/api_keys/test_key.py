"""router.api_keys.key: what a key is, and what a file of them may say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.api_keys.key import (
    KEYS_MAX,
    ApiKey,
    KeysBroken,
    check_key_name,
    digest_of,
    new_secret,
    parse_keys,
    read_time,
    to_toml,
)
from router.api_keys.scopes import SCOPES

HASH = "sha256:" + sha256(b"one").hexdigest()
TABLE = f'[[key]]\nname = "billing"\nhash = "{HASH}"\nscopes = ["send"]\n'

KEYS = st.builds(
    ApiKey,
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
    st.binary(min_size=32, max_size=32),
    st.sets(st.sampled_from(sorted(SCOPES)), min_size=1).map(frozenset),
    st.none() | st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1)).map(lambda at: at.replace(microsecond=0)),  # noqa: DTZ001 - hypothesis adds the zone
)


def test_secret_has_256_bits_behind_its_prefix() -> None:
    """`pwk_` and 43 characters of base64url, never the same."""
    made = [new_secret() for _ in range(100)]
    assert all(len(secret) == len("pwk_") + 43 and secret.startswith("pwk_") for secret in made)
    assert all(one != other for one, other in pairwise(made))


def test_key_is_known_by_its_sha256() -> None:
    """Of its text, so that `sha256sum` gives the same."""
    assert digest_of("one") == digest_of(b"one") == bytes.fromhex(HASH.removeprefix("sha256:"))


@given(st.lists(KEYS, max_size=5, unique_by=lambda key: key.digest))
def test_what_is_written_is_read(keys: list[ApiKey]) -> None:
    """Names, hashes, scopes and ends."""
    assert parse_keys(to_toml(keys)) == tuple(keys)


def test_end_may_be_toml_or_text() -> None:
    """Both are RFC 3339, in any zone; without one a key has no end."""
    (plain,) = parse_keys(TABLE)
    (toml,) = parse_keys(TABLE + "expires_at = 2026-12-31T12:00:00+02:00\n")
    (text,) = parse_keys(TABLE + 'expires_at = "2026-12-31T10:00:00Z"\n')
    assert plain.expires_at is None
    assert toml.expires_at == text.expires_at == datetime(2026, 12, 31, 10, tzinfo=UTC)


def test_key_expires_at_its_end() -> None:
    """Not a moment later; one without an end never."""
    now = datetime(2026, 12, 31, tzinfo=UTC)
    (key,) = parse_keys(TABLE + "expires_at = 2026-12-31T00:00:00Z\n")
    assert key.is_expired(now)
    assert not key.is_expired(now - timedelta(microseconds=1))
    assert not parse_keys(TABLE)[0].is_expired(now)


def test_one_name_may_have_several_keys() -> None:
    """As while a back end changes from one to the other."""
    assert [key.name for key in parse_keys(TABLE + TABLE.replace(HASH, "sha256:" + "0" * 64))] == ["billing", "billing"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("key =", "not TOML"),
        ("key = " + "[" * 1_500, "not TOML"),
        ("key = " + "9" * 5_000, "not TOML"),
        ("api_key = 1", "something else"),
        ("key = 1", "something else"),
        ("key = [1]", "something else"),
        (TABLE + 'expire_at = "2026-12-31T00:00:00Z"', "'expire_at'"),
        (TABLE + "expires_at = 2026-12-31T00:00:00", "no moment"),
        (TABLE + "expires_at = 2026-12-31", "no moment"),
        (TABLE + 'expires_at = "soon"', "no moment"),
        (TABLE + "expires_at = 1", "no moment"),
        (TABLE + "expires_at = 0001-01-01T00:00:00+23:59", "before the year 1"),
        (TABLE.replace("billing", ""), "no name"),
        (TABLE.replace("billing", "bil\\nling"), "no name"),
        (TABLE.replace("billing", "-x"), "no name"),
        (TABLE.replace("billing", "a" * 65), "no name"),
        (TABLE.replace("billing", "api_key"), "key of the setting"),
        (TABLE.replace('name = "billing"', "name = 1"), "no name"),
        (TABLE.replace("sha256:", ""), "its hash"),
        (TABLE.replace("sha256:", "md5:"), "its hash"),
        (TABLE.replace(HASH, HASH.upper()), "its hash"),
        (TABLE.replace('"send"', ""), "its scopes"),
        (TABLE.replace('"send"', '"send", "send"'), "its scopes"),
        (TABLE.replace('"send"', '"all"'), "its scopes"),
        (TABLE.replace('["send"]', '"send"'), "its scopes"),
        (TABLE + TABLE.replace("billing", "shop"), "'billing' and 'shop' are one key"),
        (TABLE * (KEYS_MAX + 1), f"{KEYS_MAX} are the most"),
    ],
)
def test_what_is_no_such_file_is_refused(text: str, said: str) -> None:
    """Whole, and the error says why; a misspelt end does not make a key that has none."""
    with pytest.raises(KeysBroken, match=said):
        parse_keys(text)


def test_errors_do_not_quote_a_key() -> None:
    """Which somebody may have put where its hash belongs."""
    secret = new_secret()
    with pytest.raises(KeysBroken) as broken:
        parse_keys(TABLE.replace(HASH, secret))
    assert secret not in str(broken.value)
    assert "key 1" in str(broken.value)


@pytest.mark.parametrize("name", ["billing", "a", "0", "shop.eu-1_b", "a" * 64])
def test_names_of_keys(name: str) -> None:
    """What reads well in a log."""
    assert check_key_name(name) == name


def test_moment_without_a_zone_is_none() -> None:
    """Nobody knows when that is."""
    with pytest.raises(KeysBroken):
        read_time("2026-12-31T00:00:00")


def test_an_old_end_is_written_so_that_it_is_read_back() -> None:
    """Years have four digits in TOML."""
    (key,) = parse_keys(TABLE + "expires_at = 0026-11-24T12:00:00Z")
    assert parse_keys(to_toml([key])) == (key,)
