"""What auth says of itself: its operations, and the shapes of what they take and give."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Final

import msgspec

from router import __version__
from router.auth.client import Issued
from router.auth.jwks import JWKS_PATH
from router.http.operations import JSON, Answer, Body, Id, Operation
from router.revocation import JTI_MAX_CHARS

FORM: Final = "application/x-www-form-urlencoded"

_NOT_JSON: Final = {HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "`Content-Type` is another, or the request is compressed."}

ABOUT: Final = (
    "Pushway auth",
    __version__,
    "Gives back ends tokens, says whether one is good, publishes the key. Errors are problem documents (RFC 9457).",
)

_TOKEN = "eyJhbGciOiJFZERTQSIsImtpZCI6IlJQX3gy…"  # noqa: S105 - the beginning of any
_JTI = "8f608a21-e233-4b0c-a82e-41db053f7a51"


# 60.0 is an integer to JSON Schema, and to languages that know one kind of number.
_Seconds = Annotated[
    float, msgspec.Meta(ge=1, multiple_of=1, description="Whole seconds, at most `token_ttl_max_s`; null is `token_ttl_s`.")
]


_Jti = Annotated[
    str,
    msgspec.Meta(
        description="The token with this id.",
        extra_json_schema={"minLength": 1, "maxLength": JTI_MAX_CHARS, "pattern": r"^[^\x00-\x1f\x7f-\x9f]+$"},
    ),
]


class TokenRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/tokens."""

    user: Id
    ttl_s: _Seconds | None = None
    topics: Annotated[list[Id], msgspec.Meta(description="Patterns, at most `token_topics_max`.")] = []
    subscribe: Annotated[
        list[Id],
        msgspec.Meta(description="Topics that each session with the token hears; at most `token_topics_max` with `topics`."),
    ] = []


class VerifyRequest(msgspec.Struct):
    """The body of POST /v1/verify; RFC 7662's `token_type_hint` may stand beside it."""

    token: Annotated[str, msgspec.Meta(min_length=1)]


class Introspection(msgspec.Struct, frozen=True):
    """What a good token says; of one that is not good, nothing but that (RFC 7662, section 2.2)."""

    active: bool
    sub: Id | msgspec.UnsetType = msgspec.UNSET
    exp: Annotated[int, msgspec.Meta(description="Unix seconds.")] | msgspec.UnsetType = msgspec.UNSET
    iss: str | msgspec.UnsetType = msgspec.UNSET
    aud: str | msgspec.UnsetType = msgspec.UNSET
    jti: str | msgspec.UnsetType = msgspec.UNSET
    topics: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    subscribe: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class RevokeRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/revoke: exactly one of `token`, `jti`, `user` and `all`."""

    token: Annotated[str, msgspec.Meta(min_length=1, description="This token.")] | msgspec.UnsetType = msgspec.UNSET
    jti: _Jti | msgspec.UnsetType = msgspec.UNSET
    user: Id | msgspec.UnsetType = msgspec.UNSET
    all: (
        Annotated[bool, msgspec.Meta(description="Everybody's tokens.", extra_json_schema={"const": True})] | msgspec.UnsetType
    ) = msgspec.UNSET
    before: (
        Annotated[
            float,
            msgspec.Meta(
                ge=0,
                multiple_of=1,
                description="With `user` or `all`: what was issued before, in Unix seconds, up to now; now unless given.",
            ),
        ]
        | msgspec.UnsetType
    ) = msgspec.UNSET
    token_type_hint: Annotated[str, msgspec.Meta(description="RFC 7009's; not looked at.")] | msgspec.UnsetType = msgspec.UNSET


_RevokeBody = Annotated[
    RevokeRequest,
    msgspec.Meta(
        extra_json_schema={
            "oneOf": [{"required": [name]} for name in ("token", "jti", "user", "all")],
            "dependentSchemas": {"before": {"anyOf": [{"required": ["user"]}, {"required": ["all"]}]}},
        }
    ),
]


class Revoked(msgspec.Struct, frozen=True):
    """What has been done."""

    revoked: Annotated[bool, msgspec.Meta(description="False of a token that was good for nothing.")]
    before: (
        Annotated[int, msgspec.Meta(description="Unix seconds: tokens issued before it are revoked; of `user` and `all`.")]
        | msgspec.UnsetType
    ) = msgspec.UNSET


class PublicKey(msgspec.Struct, frozen=True):
    """An Ed25519 key as a JWK (RFC 8037); `kid` is its thumbprint (RFC 7638)."""

    kty: str
    crv: str
    x: str
    kid: str
    alg: str
    use: str


class KeySet(msgspec.Struct, frozen=True):
    """A JWK Set (RFC 7517)."""

    keys: tuple[PublicKey, ...]


POST_TOKENS: Final = Operation(
    id="post_tokens",
    method="POST",
    path="/v1/tokens",
    scope="tokens",
    summary="A token for a user",
    description="A back end does this for a user that it has logged in, and hands the token to the user's app.",
    body=Body(TokenRequest, "Whom it is for, and for how long.", example={"user": "alice", "ttl_s": 600}),
    answers=(
        Answer(
            HTTPStatus.CREATED,
            Issued,
            "The token.",
            example=Issued(_TOKEN, "alice", _JTI, 1795362661),
            headers={"cache-control": "`no-store`: nobody on the way keeps it."},
        ),
    ),
    problems=_NOT_JSON,
)

POST_VERIFY: Final = Operation(
    id="post_verify",
    method="POST",
    path="/v1/verify",
    scope="tokens",
    summary="Whether a token is good",
    description="Token introspection, as RFC 7662 has it. Edges do not need it: they check tokens with the public key.",
    body=Body(VerifyRequest, "The token, as a form or as JSON.", example={"token": _TOKEN}, media_types=(FORM, JSON)),
    answers=(
        Answer(
            HTTPStatus.OK,
            Introspection,
            "What the token says, or that it is not good.",
            example=Introspection(
                active=True, sub="alice", exp=1795362661, iss="pushway", aud="pushway", jti=_JTI, topics=(), subscribe=()
            ),
            headers={"cache-control": "`no-store`: nobody on the way keeps it."},
        ),
    ),
    problems=_NOT_JSON
    | {HTTPStatus.SERVICE_UNAVAILABLE: "MongoDB is away, so that it cannot be told whether the token is revoked."},
)

POST_REVOKE: Final = Operation(
    id="post_revoke",
    method="POST",
    path="/v1/revoke",
    scope="tokens",
    summary="Call tokens back",
    description="Token revocation, as RFC 7009 has it, of one token; or of all that a user or anybody has. Sessions with such "
    "tokens end within a second, and a token that is issued after the answer is good.",
    body=Body(_RevokeBody, "Which tokens, as a form or as JSON.", example={"user": "alice"}, media_types=(FORM, JSON)),
    answers=(
        Answer(
            HTTPStatus.OK,
            Revoked,
            "It is done; or the token is good for nothing, and nothing was to be done.",
            example=Revoked(revoked=True, before=1795362662),
            headers={"cache-control": "`no-store`: nobody on the way keeps it."},
        ),
    ),
    problems=_NOT_JSON
    | {
        HTTPStatus.SERVICE_UNAVAILABLE: "MongoDB or Redis is away: it may not be written, or not everybody was told. Repeat it."
    },
)

GET_JWKS: Final = Operation(
    id="get_jwks",
    method="GET",
    path=JWKS_PATH,
    summary="The public key",
    description="The key that checks tokens, as a JWK Set. Edges read it every `jwks_refresh_s`.",
    answers=(
        Answer(
            HTTPStatus.OK,
            KeySet,
            "The key.",
            headers={"cache-control": "How long it may be kept: `jwks_refresh_s`."},
        ),
    ),
    scope=None,
)
