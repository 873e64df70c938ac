"""router.auth.foreign: tokens of any issuer, and everything that an attacker may write into one."""

from __future__ import annotations

import time
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from router.auth.foreign import EXPIRES_MAX_S, TRIED_MAX, ForeignRules, head_of, verify
from router.auth.tokens import TOKEN_MAX_CHARS, Claims, issued_at
from router.auth.trusted import TrustedKey, from_issuer_set, from_pem, from_secrets
from router.errors import TokenExpired, TokenRefused
from router.settings import Settings
from tests.issuers import EC_KEY, ED_KEY, RSA_KEY, SECRET, encode, forge_hmac, jwk, key_set, payload, pem, sign

EXPECTED: Final[dict[str, Any]] = {"auth_by": "jwt", "token_issuer": "https://issuer.example", "token_audience": "push"}
RULES: Final = ForeignRules.of(Settings(jwt_key_file="k", **EXPECTED))
SHARED: Final = ForeignRules.of(Settings(jwt_secret=(SECRET,), **EXPECTED))
KEYS: Final = from_pem(pem(RSA_KEY, EC_KEY, ED_KEY))
SHORT_RSA_KEY: Final = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - to be refused
SECRETS: Final = from_secrets([SECRET])


def _verify(token: str, keys: list[TrustedKey] = KEYS, rules: ForeignRules = RULES) -> Claims | None:
    return verify(token, head_of(token, rules), keys, rules)


def _reason(token: str, keys: list[TrustedKey] = KEYS, rules: ForeignRules = RULES) -> str:
    """Return why a token is not believed; "" when it is."""
    try:
        return "" if _verify(token, keys, rules) else "no key signed it"
    except TokenRefused as exc:
        return exc.reason


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(RSA_KEY, f"{family}{bits}") for family in ("RS", "PS") for bits in (256, 384, 512)]
    + [(EC_KEY, "ES256"), (ED_KEY, "EdDSA")],
)
def test_tokens_of_every_kind_of_key_are_believed(key: Any, algorithm: str) -> None:  # noqa: ANN401 - a key of any kind
    """Each by the algorithms that fit it, with what the token says of topics."""
    said = payload(topics=["news", "sport.*"], subscribe=["room"], jti="t1", nbf=int(time.time()), iat=int(time.time()))
    claims = _verify(sign(said, key, algorithm, kid="whatever"))
    assert claims == Claims("alice", said["exp"], ("news", "sport.*"), "t1", ("room",), said["iat"])


@pytest.mark.parametrize(("curve", "algorithm"), [(ec.SECP384R1(), "ES384"), (ec.SECP521R1(), "ES512")])
def test_larger_curves_have_their_algorithm(curve: ec.EllipticCurve, algorithm: str) -> None:
    """P-384 and P-521."""
    key = ec.generate_private_key(curve)
    assert _reason(sign(payload(), key, algorithm), from_pem(pem(key))) == ""


def test_a_shared_secret_signs_too() -> None:
    """HS256 unless more is allowed; jti is not asked for."""
    assert _reason(sign(payload(), SECRET, "HS256"), SECRETS, SHARED) == ""
    assert "not accepted" in _reason(sign(payload(), SECRET * 2, "HS512"), SECRETS, SHARED)


@pytest.mark.parametrize("header", [{}, {"kid": "k"}, {"typ": "JWT"}])
@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "", None, 7, ["EdDSA"], "HS256", "RS1", "EdDSA "])
def test_no_algorithm_but_those_allowed(alg: object, header: dict[str, object]) -> None:
    """Unsigned tokens above all, however none is spelt, with a signature or without."""
    begun = f"{encode({'alg': alg} | header)}.{encode(payload())}."
    for token in (begun, begun + "AAAA", begun + encode(b"x" * 64)):
        for keys, rules in ((KEYS, RULES), (SECRETS, SHARED)):
            assert _reason(token, keys, rules)


@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY, ED_KEY])
def test_public_key_is_no_hmac_secret(key: Any) -> None:  # noqa: ANN401 - a key of any kind
    """Whatever form of the public key is taken for the secret, and even where HMAC is allowed for other keys."""
    text = pem(key)
    for secret in (text, text.strip(), b"".join(text.splitlines()[1:-1]), encode(text).encode()):
        token = forge_hmac({"alg": "HS256", "kid": "k"}, payload(), secret)
        assert "not accepted" in _reason(token)
        both = ForeignRules(RULES.algorithms | {"HS256"}, RULES.issuer, RULES.audience, 5, "sub")
        assert _reason(token, KEYS, both) == "no key signed it"


def test_secret_signs_no_public_key_s_token() -> None:
    """And an algorithm of another kind of key than there is finds no key."""
    assert "not accepted" in _reason(sign(payload(), RSA_KEY, "RS256"), SECRETS, SHARED)
    assert _reason(sign(payload(), RSA_KEY, "RS256"), from_pem(pem(EC_KEY))) == "no key signed it"


def test_algorithms_may_be_fewer() -> None:
    """What the settings leave out is refused though the key could do it."""
    rules = ForeignRules(frozenset({"PS256"}), RULES.issuer, RULES.audience, 5, "sub")
    assert _reason(sign(payload(), RSA_KEY, "PS256"), KEYS, rules) == ""
    assert "not accepted" in _reason(sign(payload(), RSA_KEY, "RS256"), KEYS, rules)


def test_keys_that_a_token_brings_are_not_heard() -> None:
    """Neither in it nor at an address in it."""
    own = Ed25519PrivateKey.generate()
    header = {"jwk": jwk(own), "jku": "https://evil.example/jwks.json", "x5u": "https://evil.example/x.pem", "x5c": ["AAAA"]}
    assert _reason(sign(payload(), own, "EdDSA", kid="k", **header)) == "no key signed it"
    assert _reason(sign(payload(), ED_KEY, "EdDSA", kid="k", **header)) == ""


def test_what_is_critical_must_be_known() -> None:
    """And nothing is."""
    assert _reason(sign(payload(), ED_KEY, "EdDSA", crit=["exp"], exp=1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"exp": None}, "the token has no exp"),
        ({"iss": None}, "the token has no iss"),
        ({"aud": None}, "the token has no aud"),
        ({"sub": None}, "the token has no sub"),
        ({"aud": "others"}, "the token is for another audience"),
        ({"aud": ["others", "app"]}, "the token is for another audience"),
        ({"aud": [["push"]]}, "the token is for another audience"),
        ({"iss": "https://issuer.example.evil.net"}, "the token is from another issuer"),
        ({"nbf": 4_000_000_000}, "the token is not valid yet"),
        ({"iat": 4_000_000_000}, "the token is not valid yet"),
        ({"sub": 7}, "sub of the token is not a text"),
        ({"sub": {"$ne": ""}}, "sub of the token is not a text"),
        ({"topics": "news"}, "topics of the token is not a list of texts"),
        ({"subscribe": [1]}, "subscribe of the token is not a list of texts"),
        ({"exp": "soon"}, "the token is malformed"),
        ({"exp": "4000000000"}, "exp of the token is not a number"),
        ({"exp": [4_000_000_000]}, "the token is malformed"),
        ({"exp": float("nan")}, "the token is malformed"),
        ({"exp": float("inf")}, "the token is malformed"),
        ({"nbf": float("inf")}, "the token is malformed"),
    ],
)
def test_wrong_claim_is_refused(changes: dict[str, object], reason: str) -> None:
    """A claim that is asked for must be there, and right."""
    assert _reason(sign(payload(**changes), ED_KEY, "EdDSA")) == reason


@pytest.mark.parametrize("user", ["", "a b", "a,b", "a{b", "a\nb", "x" * 129])
def test_user_must_be_an_id(user: str) -> None:
    """What cannot stand in a key name gets nowhere."""
    assert "is not an id" in _reason(sign(payload(sub=user), ED_KEY, "EdDSA"))


def test_another_claim_may_be_the_user() -> None:
    """Then sub may be what it likes."""
    rules = ForeignRules(RULES.algorithms, RULES.issuer, RULES.audience, 5, "uid")
    claims = _verify(sign(payload(sub=None, uid="bob"), ED_KEY, "EdDSA"), rules=rules)
    assert claims is not None
    assert claims.user == "bob"
    assert _reason(sign(payload(), ED_KEY, "EdDSA"), rules=rules) == "the token has no uid"


def test_empty_issuer_and_audience_are_not_looked_at() -> None:
    """As the settings say: any, or none."""
    rules = ForeignRules(RULES.algorithms, "", "", 5, "sub")
    for changes in ({}, {"iss": None, "aud": None}, {"iss": "x", "aud": ["y"]}):
        assert _reason(sign(payload(**changes), ED_KEY, "EdDSA"), rules=rules) == ""


def test_expiry_is_told_apart_when_nothing_else_is_wrong() -> None:
    """Only then will a newer token do; leeway is allowed."""
    now = int(time.time())
    assert _reason(sign(payload(exp=now - 2), ED_KEY, "EdDSA")) == ""
    with pytest.raises(TokenExpired):
        _verify(sign(payload(exp=now - 10), ED_KEY, "EdDSA"))
    for changes in ({"aud": "others"}, {"iss": "others"}, {"sub": "a b"}, {"topics": "news"}):
        with pytest.raises(TokenRefused) as refused:
            _verify(sign(payload(exp=now - 10, **changes), ED_KEY, "EdDSA"))
        assert not isinstance(refused.value, TokenExpired)


@pytest.mark.parametrize(
    ("exp", "expires_at"), [(4_000_000_000.9, 4_000_000_000), (10**400, EXPIRES_MAX_S), (1e300, EXPIRES_MAX_S)]
)
def test_times_are_numbers_that_can_be_reckoned_with(exp: float, expires_at: int) -> None:
    """JSON's numbers have no end."""
    claims = _verify(sign(payload(exp=exp), ED_KEY, "EdDSA"))
    assert claims is not None
    assert claims.expires_at == expires_at


def test_changed_payload_and_other_keys_are_refused() -> None:
    """The signature covers what the token says."""
    header, _, signature = sign(payload(), ED_KEY, "EdDSA").split(".")
    assert _reason(f"{header}.{encode(payload(sub='mallory'))}.{signature}") == "no key signed it"
    assert _reason(sign(payload(), Ed25519PrivateKey.generate(), "EdDSA")) == "no key signed it"


def test_old_and_new_key_stand_side_by_side() -> None:
    """Tokens of both are believed while both are there; only so many are tried."""
    new = Ed25519PrivateKey.generate()
    for key in (ED_KEY, new):
        assert _reason(sign(payload(), key, "EdDSA"), from_pem(pem(ED_KEY, new))) == ""
    for secret in (SECRET, SECRET[::-1]):
        assert _reason(sign(payload(), secret, "HS256"), from_secrets([SECRET, SECRET[::-1]]), SHARED) == ""
    many = [key for key in from_pem(pem(new)) for _ in range(TRIED_MAX)]
    assert _reason(sign(payload(), ED_KEY, "EdDSA"), [*many, *KEYS]) == "no key signed it"


@pytest.mark.parametrize("kid", [7, ["k"], {"a": 1}, "k" * 2_000])
def test_kid_is_a_text(kid: object) -> None:
    """And not a book."""
    token = f"{encode({'alg': 'EdDSA', 'kid': kid})}.{encode(payload())}.{encode(b'x' * 64)}"
    assert _reason(token)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "..", "ü.ü.ü", "\udcff.a.b", "[" * 6000, "null.e30.AA", "bnVsbA.e30.AA"])
def test_garbage_is_refused(token: str) -> None:
    """What is not a token at all is refused, not an error of ours."""
    assert _reason(token)


def test_nested_json_is_refused() -> None:
    """In the header before the signature is known, in the payload after it."""
    nest = encode(b"[" * 5_000)
    assert _reason(f"{nest}.e30.AA")
    assert _reason(forge_hmac({"alg": "HS256"}, b'{"exp":' + b"[" * 5_000, SECRET.encode()), SECRETS, SHARED)


def test_overlong_token_is_refused_unread() -> None:
    """The work done before a signature is known is bounded."""
    assert str(TOKEN_MAX_CHARS) in _reason("x" * (TOKEN_MAX_CHARS + 1))


@pytest.mark.parametrize(
    "data", [b"null", b"[]", b"7", b'"x"', b"\xff", b'{"exp":1e999,"sub":"a"}', b'{"exp":' + b"9" * 5_000 + b"}"]
)
def test_payloads_that_are_no_claims_are_refused(data: bytes) -> None:
    """Though their signature is good: an issuer may err."""
    assert _reason(forge_hmac({"alg": "HS256"}, data, SECRET.encode()), SECRETS, SHARED)


@given(st.text(max_size=200))
def test_any_text_is_refused_and_never_an_error(token: str) -> None:
    """Whatever text comes, the answer is a refusal."""
    assert _reason(token)


@given(
    st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))
)
def test_any_value_of_any_claim_is_judged(value: object) -> None:
    """Believed or refused, and never an error."""
    for claim in ("sub", "exp", "nbf", "iat", "aud", "iss", "topics", "subscribe", "jti"):
        _reason(forge_hmac({"alg": "HS256"}, payload() | {claim: value}, SECRET.encode()), SECRETS, SHARED)


def test_set_gives_keys_by_their_names() -> None:
    """Nameless ones under no name, and several under one."""
    keys = from_issuer_set(key_set(jwk(RSA_KEY, kid="a"), jwk(EC_KEY, kid="a"), jwk(ED_KEY)))
    assert {kid: len(named) for kid, named in keys.items()} == {"a": 2, "": 1}
    assert _reason(sign(payload(), EC_KEY, "ES256"), [*keys["a"]]) == ""


@pytest.mark.parametrize(
    "unfit",
    [
        {"kty": "oct", "k": encode(SECRET.encode()), "kid": "a"},
        {"kty": "oct", "k": encode(SECRET.encode()), "alg": "HS256"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": encode(b"x" * 32)},
        {"kty": 7},
        {},
        jwk(RSA_KEY, use="enc"),
        jwk(RSA_KEY, key_ops=["encrypt"]),
        jwk(RSA_KEY, alg="HS256"),
        jwk(RSA_KEY, alg="ES256"),
        jwk(RSA_KEY, d="AQAB"),
        jwk(RSA_KEY, kid=7),
        jwk(SHORT_RSA_KEY),
        jwk(ec.generate_private_key(ec.SECP256K1())),
    ],
)
def test_keys_that_cannot_be_used_are_passed_over(unfit: dict[str, Any]) -> None:
    """Secrets above all; a set with nothing else in it is none."""
    assert list(from_issuer_set(key_set(unfit, jwk(ED_KEY, kid="good")))) == ["good"]
    with pytest.raises(ValueError, match="none of its 1 keys"):
        from_issuer_set(key_set(unfit))


@pytest.mark.parametrize(
    "document", [b"", b"<html>", b"[]", b"{}", b'{"keys":{}}', b"\xff", b"[" * 100_000, key_set(*[{}] * 101)]
)
def test_what_is_no_set_is_told(document: bytes) -> None:
    """Or one of too many keys."""
    with pytest.raises(ValueError, match="JWK Set"):
        from_issuer_set(document)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "0 keys"),
        (b"nonsense", "0 keys"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "it holds a PRIVATE KEY"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "PEM|key"),
        (pem(SHORT_RSA_KEY), "1024 bits"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "curves"),
        (pem(*[ED_KEY] * 9), "9 keys"),
    ],
)
def test_file_without_good_public_keys_is_told(text: bytes, said: str) -> None:
    """In words for who has set it."""
    with pytest.raises(ValueError, match=said):
        from_pem(text)


@pytest.mark.parametrize(
    ("iat", "known"),
    [
        (7, 7),
        (7.9, 7),
        (-(2**80), -(2**80)),
        (True, 0),
        ("7", 0),
        (None, 0),
        ([7], 0),
        (float("nan"), 0),
        (float("-inf"), 0),
    ],
)
def test_when_a_token_was_issued(iat: object, known: int) -> None:
    """In whole seconds; what is no number counts as none, so that any revocation concerns it."""
    assert issued_at({"iat": iat}) == known
    assert issued_at({}) == 0
