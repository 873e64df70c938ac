"""router.api_keys.ring: whose key it is."""

from __future__ import annotations

from router.api_keys.key import ApiKey, digest_of
from router.api_keys.ring import Keyring
from router.api_keys.scopes import ALL_SCOPES

BILLING = ApiKey("billing", digest_of("one"), frozenset({"send"}))
SHOP = ApiKey("shop", digest_of("two"), frozenset({"read"}))


def test_each_key_is_found_by_what_is_shown() -> None:
    """And by nothing else, an empty text and the hash itself included."""
    ring = Keyring("set", [BILLING, SHOP])
    assert [ring.find(shown) for shown in (b"one", b"two")] == [BILLING, SHOP]
    for shown in (b"", b"three", b"ONE", b"one ", BILLING.digest, BILLING.digest.hex().encode(), "é".encode()):
        assert ring.find(shown) is None


def test_key_of_the_setting_has_all_scopes() -> None:
    """And stays whatever the file says."""
    ring = Keyring("set", [BILLING])
    ring.replace([])
    found = ring.find(b"set")
    assert found is not None
    assert (found.name, found.scopes) == ("api_key", ALL_SCOPES)
    assert ring.find(b"one") is None


def test_no_key_is_no_key() -> None:
    """An empty setting is none that anybody could show."""
    assert Keyring("").find(b"") is None
