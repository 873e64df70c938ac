"""Settings of auth, and of how edges tell who a client is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from router.settings.kinds import Bytes, Count, Port, Seconds, Secrets, Texts


class AuthSettings(BaseModel):
    """Keys, tokens and who judges them."""

    # -- auth --------------------------------------------------------------------------------------------------------
    auth_by: Literal["pushway", "jwt", "http"] = Field(
        "pushway",
        description="How edges tell who a client is: by tokens of the auth service here; by JSON Web Tokens of any issuer; or "
        "by asking a service over HTTP (docs/auth.md).",
    )
    auth_host: str = Field("127.0.0.1", description="Address the auth service listens on.")
    auth_port: Port = Field(8001, description="Port the auth service listens on.")
    auth_url: str = Field(
        "http://127.0.0.1:8001", pattern=r"^https?://", description="Where commands and edges find the auth service."
    )
    auth_key_file: Path = Field(
        Path("auth-key.pem"),
        description="The private Ed25519 key (PEM) that signs tokens; made at the first start, mode 0600. Copies of "
        "auth share the file.",
    )
    api_key: str = Field(
        "",
        description="What back ends show in Authorization: Bearer; it has every scope. At least 32 visible ASCII "
        "characters, as `openssl rand -base64 32` prints. Auth and the API start with it, with api_keys_file, or not at all.",
    )
    api_keys_file: str = Field(
        "",
        description="A file of API keys with names, scopes and expiry, as `pushway keys` makes it (docs/http.md). What has "
        "changed in it counts without a restart.",
    )
    api_keys_reload_s: Seconds = Field(2.0, description="How often auth and collect look whether api_keys_file has changed.")
    token_issuer: str = Field(
        "pushway",
        description="iss of tokens issued and accepted. Empty, which only auth_by jwt takes: it is not looked at.",
    )
    token_audience: str = Field(
        "pushway",
        description="aud of tokens issued and accepted; a token may have others beside it. Empty, which only auth_by jwt "
        "takes: it is not looked at, so that a token which the issuer gave for another service gets in.",
    )
    token_ttl_s: Annotated[int, Field(ge=1)] = Field(3_600, description="Life of a token unless asked otherwise.")
    token_leeway_s: Annotated[int, Field(ge=0)] = Field(5, description="Clock difference allowed at exp and nbf.")
    token_ttl_max_s: Annotated[int, Field(ge=1)] = Field(
        86_400, description="Longest life a back end may ask for (a day). A token that got out is good until its end."
    )
    token_topics_max: Count = Field(
        100, description="Most topic patterns and topics to subscribe in one token; a token is sent with every connect."
    )
    revocation_refresh_s: Seconds = Field(
        5.0,
        description="How often an edge reads what has been revoked, beside being told at once. So long a revocation may stay "
        "unknown to an edge that cannot be told: when who revoked died before telling, or it is cut off from Redis alone.",
    )
    revocation_grace_s: Seconds = Field(
        60.0,
        description="An edge that has neither heard of Redis nor read the list of what is revoked for so long closes everyone "
        "with 4001, and lets nobody in until it can read it. Longer than a failover of both takes.",
    )
    revocation_keep_s: Annotated[int, Field(ge=60, le=1_000_000_000)] = Field(
        2_592_000,
        description="How long a revocation is kept where tokens are not of auth here (30 days): longer than any token of "
        "yours lives. Those of auth live for token_ttl_max_s at most.",
    )
    auth_body_max_bytes: Bytes = Field(16_384, description="Longest request body that auth reads, in bytes.")
    auth_timeout_s: Seconds = Field(
        5.0, description="How long a request to the auth service, to jwt_jwks_url or to auth_callback_url may take."
    )
    jwks_refresh_s: Seconds = Field(
        300.0, description="How often an edge reads the public keys anew, of auth, of jwt_jwks_url or in jwt_key_file."
    )
    jwt_jwks_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Where the issuer publishes its keys as a JWK Set: Ed25519, RSA from 2,048 bits, P-256, P-384 and P-521. "
        "By https, or http to this machine and auth_plain_hosts. Of auth_by jwt.",
    )
    jwt_key_file: str = Field(
        "",
        description="A PEM file with the issuer's public key, or several while it changes keys; read anew every "
        "jwks_refresh_s. Of auth_by jwt.",
    )
    jwt_secret: Secrets = Field(
        (),
        description="The secret that the issuer signs with (HMAC), as it stands here, at least 32 bytes of it; or several "
        "while it is changed, one a line or a,b. Who has it can make tokens: public keys are better. Of auth_by jwt.",
    )
    jwt_algorithms: Texts = Field(
        (),
        description="Algorithms that tokens may be signed with: EdDSA, ES256, ES384, ES512, RS256 … RS512, PS256 … PS512 with "
        "public keys, HS256, HS384, HS512 with a secret. Unless set, all that fit the public keys, or HS256. Of auth_by jwt.",
    )
    jwt_user_claim: str = Field("sub", min_length=1, description="The claim that says who the user is. Of auth_by jwt.")
    auth_callback_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="The service that an edge asks about each token, by POST. By https, or http to this machine and "
        "auth_plain_hosts. Of auth_by http.",
    )
    auth_callback_secret: str = Field(
        "",
        description="What edges show that service in Authorization: Bearer, at least 32 visible ASCII characters; nothing "
        "unless set. Of auth_by http.",
    )
    auth_callback_headers: Texts = Field(
        (),
        description="Headers of the request to connect that are told to that service, as user-agent or x-forwarded-for. Edges "
        "keep them while the connection stands. Of auth_by http.",
    )
    auth_callback_calls_max: Annotated[int, Field(ge=1, le=1_000)] = Field(
        64, description="Most questions to that service at a time from one edge; others wait their turn. Of auth_by http."
    )
    auth_callback_failures_max: Count = Field(
        10,
        description="After so many failures in a row (no answer in time, none at all, 5xx) an edge asks no more, but for one "
        "try in a while, with backoff; clients are told to come again. Of auth_by http.",
    )
    auth_cache_s: Annotated[float, Field(ge=0, le=300)] = Field(
        10.0,
        description="How long an edge remembers that a service let a token in from the same address with the same headers; so "
        "long it lets a token in that was called back there. A refusal is remembered for a second. 0 remembers nothing. Of "
        "auth_by http.",
    )
    auth_cache_max: Count = Field(
        10_000, description="Most of those answers that an edge remembers; the oldest go first. Of auth_by http."
    )
    auth_plain_hosts: Texts = Field(
        (),
        description="Hosts that jwt_jwks_url and auth_callback_url may name with plain http, as a service in the same private "
        "network. Who can change what goes between can let anybody in.",
    )
