"""router.auth.jwk: keys as JSON, against the RFC's own example."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from router.auth.jwk import from_key_set, thumbprint, to_key_set

# RFC 8037, appendix A.1 to A.3.
RFC_PRIVATE = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC_X = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
RFC_THUMBPRINT = "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_thumbprint_is_the_rfc_s() -> None:
    """RFC 8037's example key has RFC 8037's thumbprint, and its x."""
    key = Ed25519PrivateKey.from_private_bytes(RFC_PRIVATE).public_key()
    assert thumbprint(key) == RFC_THUMBPRINT
    assert to_key_set(key)["keys"][0] == {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": RFC_X,
        "kid": RFC_THUMBPRINT,
        "alg": "EdDSA",
        "use": "sig",
    }


def test_key_set_gives_the_keys_back() -> None:
    """What is published is what is read."""
    keys = [Ed25519PrivateKey.generate().public_key() for _ in range(2)]
    found = from_key_set(json.dumps(to_key_set(*keys)).encode())
    assert {kid: key.public_bytes_raw() for kid, key in found.items()} == {
        thumbprint(key): key.public_bytes_raw() for key in keys
    }


def test_keys_of_another_kind_are_passed_over() -> None:
    """A set may hold keys of other kinds, and members nobody knows."""
    other = {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "r", "new": {"a": 1}}
    document = {"keys": [other, {"kty": "OKP", "crv": "Ed25519", "x": RFC_X}], "more": 1}
    assert list(from_key_set(json.dumps(document).encode())) == [RFC_THUMBPRINT]


def test_key_is_named_by_its_own_thumbprint() -> None:
    """A key cannot be slipped in under another one's kid."""
    document = {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": RFC_X, "kid": "another"}]}
    assert list(from_key_set(json.dumps(document).encode())) == [RFC_THUMBPRINT]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b'{"keys":7}',
        b"<html>",
        b"[" * 100_000,
        b'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA"}]}',
        b'{"keys":[{"kty":"OKP","crv":"Ed25519","x":"A"}]}',
        '{"keys":[{"kty":"OKP","crv":"Ed25519","x":"ü"}]}'.encode(),
    ],
)
def test_anything_else_is_a_value_error(document: bytes) -> None:
    """What is not a key set is one kind of error."""
    with pytest.raises(ValueError, match=r"\S"):
        from_key_set(document)
