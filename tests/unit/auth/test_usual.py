"""router.auth.usual: reads what auth issues, and nothing that PyJWT would not read."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Final

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from router.auth import usual
from router.auth.tokens import Claims, TokenRules, issue

KEY: Final = Ed25519PrivateKey.generate()
PUBLIC: Final = KEY.public_key()
NOW: Final = int(time.time())
TOKEN: Final = issue(
    Claims("alice", NOW + 600, ("news",), "t1", ("sport",)), KEY, "k1", TokenRules("pushway", "pushway", 5), NOW
)

HEADERS: Final = st.fixed_dictionaries(
    {"alg": st.sampled_from(["EdDSA", "none", "HS256"]), "kid": st.sampled_from(["k1", "", "é", 7, None])},
    optional={"typ": st.sampled_from(["JWT", 1]), "crit": st.sampled_from([["b64"], []]), "b64": st.booleans()},
)
VALUES: Final[st.SearchStrategy[object]] = st.sampled_from(
    ["pushway", "", "\ud800", 5, NOW + 60, 1e18, 1.0, 1.5, True, None, [], ["pushway"], {}, 2**70]
)
PAYLOADS: Final = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "jti", "exp", "iat", "nbf", "topics", "subscribe", "more"]), VALUES, min_size=5
)
GOOD: Final = {"iss": "pushway", "aud": "pushway", "sub": "alice", "jti": "t1", "exp": NOW + 600}


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signed(header: bytes, payload: bytes) -> str:
    text = f"{_base64url(header)}.{_base64url(payload)}"
    return f"{text}.{_base64url(KEY.sign(text.encode()))}"


def _read_by_the_library(token: str) -> dict[str, Any]:
    shape_only: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}
    payload: dict[str, Any] = jwt.decode(token, PUBLIC, algorithms=["EdDSA"], options=shape_only)
    return payload


def _agrees(token: str) -> bool:
    """Tell whether a token is usual, in which case the library says the same of it."""
    try:
        said = usual.read(token, PUBLIC)
    except InvalidSignature:
        with pytest.raises(jwt.InvalidSignatureError):
            _read_by_the_library(token)
        return False
    kid = usual.kid_of(token)
    if kid is not None:
        assert jwt.get_unverified_header(token)["kid"] == kid
    if said is None:
        return False
    payload = _read_by_the_library(token)
    assert [said.iss, said.aud, said.sub, said.jti] == [payload[name] for name in ("iss", "aud", "sub", "jti")]
    assert [said.exp, said.iat, said.nbf] == [payload.get(name, 0) for name in ("exp", "iat", "nbf")]
    assert [list(said.topics), list(said.subscribe)] == [payload.get(name, []) for name in ("topics", "subscribe")]
    return True


def test_what_auth_issues_is_usual() -> None:
    """So nobody who comes with it takes the long way."""
    assert usual.kid_of(TOKEN) == "k1"
    assert _agrees(TOKEN)


@given(HEADERS, PAYLOADS)
def test_the_library_agrees_with_what_is_read(header: dict[str, Any], changes: dict[str, Any]) -> None:
    """Whatever header and claims are signed."""
    _agrees(_signed(json.dumps(header).encode(), json.dumps(GOOD | changes).encode()))


@given(
    st.integers(0, len(TOKEN) - 1),
    st.one_of(st.sampled_from(["", ".", "=", "\n", "+", "/", "A", "B", "_", "-", "é", "=="]), st.text(max_size=3)),
)
def test_the_library_agrees_on_what_is_left_of_a_token(at: int, put: str) -> None:
    """With any of its letters replaced it proves nothing, unless that was what stood there."""
    token = TOKEN[:at] + put + TOKEN[at + 1 :]
    assert _agrees(token) == (token == TOKEN)


@given(st.binary(max_size=40))
def test_the_library_agrees_on_bytes_that_are_no_json(data: bytes) -> None:
    """As a header or a payload, or within one."""
    header, payload = b'{"alg":"EdDSA","kid":"k1"}', json.dumps(GOOD).encode()
    for token in (_signed(data, payload), _signed(header, data), _signed(header, payload[:-1] + b',"sub":"' + data + b'"}')):
        _agrees(token)


@pytest.mark.parametrize("extra", ['"crit":["b64"]', '"b64":false', '"jwk":{}', '"alg":"none"', '"kid":""'])
def test_a_header_that_says_more_is_not_usual(extra: str) -> None:
    """Nothing is judged, and nobody is let in by what was overlooked."""
    token = _signed(f'{{"alg":"EdDSA","kid":"k1",{extra}}}'.encode(), json.dumps(GOOD).encode())
    assert usual.read(token, PUBLIC) is None
    assert usual.kid_of(token) is None


def test_a_signature_of_another_key_is_told_at_once() -> None:
    """It need not be looked at twice."""
    with pytest.raises(InvalidSignature):
        usual.read(TOKEN, Ed25519PrivateKey.generate().public_key())
