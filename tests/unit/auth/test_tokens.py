"""router.auth.tokens: what is believed, and what is refused for which reason."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from router.auth.tokens import TOKEN_MAX_CHARS, Claims, TokenRules, issue, kid_of, verify
from router.errors import TokenExpired, TokenRefused
from router.targets import ID_RULE

KEY: Final = Ed25519PrivateKey.generate()
PUBLIC: Final = KEY.public_key()
RULES: Final = TokenRules(issuer="pushway", audience="pushway", leeway_s=5)
KID: Final = "k1"


def _payload(**changes: object) -> dict[str, Any]:
    """A good payload with some members changed; None takes a member out."""
    now = int(time.time())
    good = {"sub": "alice", "jti": "t1", "iss": "pushway", "aud": "pushway", "iat": now, "exp": now + 60}
    return {name: value for name, value in (good | changes).items() if value is not None}


def _sign(payload: dict[str, Any], *, key: Any = KEY, algorithm: str = "EdDSA", kid: str | None = KID) -> str:  # noqa: ANN401
    return jwt.encode(payload, key, algorithm=algorithm, headers={} if kid is None else {"kid": kid})


def _reason(token: str) -> str:
    """The reason for which a token is refused, whichever step finds it; empty when it is not."""
    try:
        kid_of(token)
        verify(token, PUBLIC, RULES)
    except TokenRefused as exc:
        return exc.reason
    return ""


def _encode(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def test_issued_token_gives_its_claims_back() -> None:
    """What was issued is what is read, and kid names the key."""
    now = int(time.time())
    claims = Claims(user="alice", expires_at=now + 60, topics=("news", "sport.*"), jti="t1", subscribe=("*",), iat=now)
    token = issue(claims, KEY, KID, RULES, now)
    assert kid_of(token) == KID
    assert verify(token, PUBLIC, RULES) == claims


def test_token_without_topics_grants_none() -> None:
    """Topics may be missing, and so may those to subscribe."""
    claims = verify(_sign(_payload()), PUBLIC, RULES)
    assert (claims.topics, claims.subscribe) == ((), ())


def test_leeway_is_allowed_at_expiry() -> None:
    """A clock that is behind by less than the leeway does no harm; more is expired."""
    now = int(time.time())
    assert verify(_sign(_payload(exp=now - 2)), PUBLIC, RULES).user == "alice"
    assert _reason(_sign(_payload(exp=now - 10))) == "the token has expired"


def test_expiry_is_told_apart_when_nothing_else_is_wrong() -> None:
    """Only then will a newer token do."""
    past = int(time.time()) - 10
    with pytest.raises(TokenExpired):
        verify(_sign(_payload(exp=past)), PUBLIC, RULES)
    for changes in ({"aud": "others"}, {"iss": "others"}, {"sub": "a b"}, {"topics": "news"}):
        with pytest.raises(TokenRefused) as refused:
            verify(_sign(_payload(exp=past, **changes)), PUBLIC, RULES)
        assert not isinstance(refused.value, TokenExpired)


@pytest.mark.parametrize("claim", ["exp", "iss", "aud", "jti", "sub"])
def test_missing_claim_is_refused_by_name(claim: str) -> None:
    """Each required claim is required."""
    assert _reason(_sign(_payload(**{claim: None}))) == f"the token has no {claim}"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"aud": "others"}, "the token is for another audience"),
        ({"iss": "others"}, "the token is from another issuer"),
        ({"nbf": 4_000_000_000}, "the token is not valid yet"),
        ({"topics": "news"}, "topics of the token is not a list of texts"),
        ({"topics": [1]}, "topics of the token is not a list of texts"),
        ({"subscribe": "news"}, "subscribe of the token is not a list of texts"),
        ({"subscribe": ["a b"]}, f"the token's subscribe: 'a b' is not an id ({ID_RULE})"),
        ({"exp": "soon"}, "the token is malformed"),
        ({"sub": 7}, "the token is malformed"),
        ({"jti": 7}, "the token is malformed"),
    ],
)
def test_wrong_claim_is_refused(changes: dict[str, object], reason: str) -> None:
    """A claim that is there must be right."""
    assert _reason(_sign(_payload(**changes))) == reason


@pytest.mark.parametrize("user", ["", "a b", "a,b", "a{b", "a\nb", "x" * 129])
def test_sub_must_be_an_id(user: str) -> None:
    """A user that cannot stand in a key name never gets past the token."""
    assert "is not an id" in _reason(_sign(_payload(sub=user)))


def test_unsigned_token_is_refused() -> None:
    """Alg none, as PyJWT writes it and by hand, with and without a signature."""
    assert "EdDSA" in _reason(_sign(_payload(), key=None, algorithm="none"))
    by_hand = f"{_encode({'alg': 'none', 'typ': 'JWT', 'kid': KID})}.{_encode(_payload())}."
    assert "EdDSA" in _reason(by_hand)
    assert "EdDSA" in _reason(by_hand + "AAAA")


@pytest.mark.parametrize("form", [PublicFormat.SubjectPublicKeyInfo, PublicFormat.Raw])
def test_public_key_as_hmac_secret_is_refused(form: PublicFormat) -> None:
    """Key confusion: HS256 with the published key as the secret proves nothing, and neither step takes it."""
    encoding = Encoding.Raw if form is PublicFormat.Raw else Encoding.PEM
    secret = PUBLIC.public_bytes(encoding, form)
    signing_input = f"{_encode({'alg': 'HS256', 'typ': 'JWT', 'kid': KID})}.{_encode(_payload())}"
    # PyJWT refuses to sign with a PEM key, so this is done by hand, as an attacker would.
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(signing_input.encode(), secret)
    token = f"{signing_input}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
    assert "EdDSA" in _reason(token)
    with pytest.raises(TokenRefused, match="EdDSA"):
        verify(token, PUBLIC, RULES)


def test_rs256_is_refused() -> None:
    """Another asymmetric algorithm is refused before any key is looked at."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert "EdDSA" in _reason(_sign(_payload(), key=key, algorithm="RS256"))


def test_another_key_of_the_same_kid_is_refused() -> None:
    """A kid is a name, not a proof."""
    token = _sign(_payload(), key=Ed25519PrivateKey.generate())
    assert _reason(token) == "the token's signature is wrong"


def test_changed_payload_is_refused() -> None:
    """The signature covers what the token says."""
    header, _, signature = _sign(_payload()).split(".")
    assert _reason(f"{header}.{_encode(_payload(sub='mallory'))}.{signature}") == "the token's signature is wrong"


def test_token_without_kid_is_refused() -> None:
    """Every token names its key."""
    assert "kid" in _reason(_sign(_payload(), kid=None))


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "ü.ü.ü", "\udcff.a.b", f"{'[' * 6000}", "null.e30.AA"])
def test_garbage_is_refused(token: str) -> None:
    """What is not a token at all is refused, not an error of ours."""
    assert _reason(token) == "this is not a JSON Web Token"


def test_deeply_nested_header_is_refused() -> None:
    """JSON nested to overrun the parser's stack ends in a refusal."""
    nested = base64.urlsafe_b64encode(b"[" * 6000).rstrip(b"=").decode()
    assert _reason(f"{nested}.e30.AA")


def test_overlong_token_is_refused_unread() -> None:
    """The work done before a signature is known is bounded."""
    assert str(TOKEN_MAX_CHARS) in _reason("x" * (TOKEN_MAX_CHARS + 1))


@given(st.text(max_size=200))
def test_any_text_is_refused_and_never_an_error(token: str) -> None:
    """Whatever text comes, the answer is a refusal."""
    assert _reason(token)
