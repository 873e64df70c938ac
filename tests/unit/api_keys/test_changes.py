"""router.api_keys.changes: what is done with a file of keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from router.api_keys.changes import drop, make, rotate
from router.api_keys.key import ApiKey, KeysBroken, digest_of, fingerprint

NOW = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
BILLING = ApiKey("billing", digest_of("one"), frozenset({"send", "read"}))
SHOP = ApiKey("shop", digest_of("two"), frozenset({"read"}))


def test_new_name_gets_a_key() -> None:
    """With its scopes and its end, behind the others."""
    expected = ApiKey("shop", digest_of("two"), frozenset({"read"}), NOW)
    assert make((BILLING,), "shop", "two", ["read"], NOW) == (BILLING, expected)


@pytest.mark.parametrize(("name", "said"), [("billing", "keys rotate billing"), ("a b", "no name"), ("", "no name")])
def test_name_that_cannot_be_new_is_refused(name: str, said: str) -> None:
    """A second key of one name is made on purpose only."""
    with pytest.raises(KeysBroken, match=said):
        make((BILLING,), name, "x", ["send"], None)


def test_rotation_overlaps() -> None:
    """The old key ends after the overlap, the new one has its scopes, others stay."""
    old, shop, new = rotate((BILLING, SHOP), "billing", "new", NOW, HOUR, None)
    assert (old.digest, old.expires_at, shop) == (BILLING.digest, NOW + HOUR, SHOP)
    assert (new.name, new.digest, new.scopes, new.expires_at) == ("billing", digest_of("new"), BILLING.scopes, None)


def test_rotation_lengthens_no_life() -> None:
    """A key that ends sooner does so; those that have ended go."""
    soon = ApiKey("billing", digest_of("soon"), BILLING.scopes, NOW + HOUR / 2)
    over = ApiKey("billing", digest_of("over"), BILLING.scopes, NOW)
    after = rotate((over, soon, BILLING), "billing", "new", NOW, HOUR, NOW + 9 * HOUR)
    assert [key.expires_at for key in after] == [NOW + HOUR / 2, NOW + HOUR, NOW + 9 * HOUR]


def test_rotation_without_overlap_ends_the_old_key_at_once() -> None:
    """As when it has got out."""
    assert [key.digest for key in rotate((BILLING,), "billing", "new", NOW, timedelta(0), None)] == [digest_of("new")]


def test_all_keys_of_a_name_are_dropped_or_one() -> None:
    """Others stay."""
    keys = rotate((BILLING, SHOP), "billing", "new", NOW, HOUR, None)
    assert drop(keys, "billing") == (SHOP,)
    assert [key.digest for key in drop(keys, "billing", fingerprint(BILLING).upper())] == [SHOP.digest, digest_of("new")]


@pytest.mark.parametrize("begin", ["", "ffff"])
def test_what_is_not_there_is_told(begin: str) -> None:
    """Nobody believes a key gone that never was there."""
    with pytest.raises(KeysBroken, match="keys list"):
        drop((BILLING,), "billing" if begin else "nobody", begin)
    with pytest.raises(KeysBroken, match="no key of 'nobody'"):
        rotate((BILLING,), "nobody", "x", NOW, HOUR, None)
