"""Whom our clients believe: the contexts in which Redis, MongoDB, auth and edges are asked.

Certificates and host names are verified always, but where an address on this machine says otherwise (`router.tls.addresses`).
A context is made once and kept: to read the machine's trust store takes some 10 ms, in which nothing else runs.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from router.errors import SetupError
from router.settings import Settings
from router.tls.addresses import redis_parameters, redis_verifies

_REFUSED: Final = re.compile(r"certificate verify failed: ([^(\n]+)")
_SSL: Final = re.compile(r"\[SSL(?:: [A-Z0-9_]+)?\] ([a-z0-9 /]+)")


def redis_trust(settings: Settings) -> ssl.SSLContext | None:
    """Return the context for Redis; None where it is not reached over TLS.

    Raises:
        SetupError: when a file that is named cannot be used.
    """
    if urlsplit(settings.redis_url).scheme != "rediss":
        return None
    parameters = redis_parameters(settings.redis_url)
    named = "redis_ca_file" if settings.redis_ca_file else "ssl_ca_certs in redis_url"
    context = _context(
        named,
        settings.redis_ca_file or parameters.get("ssl_ca_certs"),
        parameters.get("ssl_ca_path"),
        parameters.get("ssl_ca_data"),
    )
    if "ssl_certfile" in parameters:
        _show(context, parameters["ssl_certfile"], parameters.get("ssl_keyfile"), parameters.get("ssl_password"))
    if "ssl_ciphers" in parameters:
        context.set_ciphers(parameters["ssl_ciphers"])
    if "ssl_min_version" in parameters:
        context.minimum_version = ssl.TLSVersion(int(parameters["ssl_min_version"]))
    certificates, context.check_hostname = redis_verifies(parameters)
    if not certificates:
        context.verify_mode = ssl.CERT_NONE
    return context


def check_mongo_trust(settings: Settings) -> None:
    """Refuse a `mongo_ca_file` that the driver could not use.

    Raises:
        SetupError: naming it.
    """
    if settings.mongo_ca_file:
        _context("mongo_ca_file", settings.mongo_ca_file)


def http_trust(settings: Settings) -> ssl.SSLContext:
    """Return the context for what is asked over https and wss: the machine's trust store, and `http_ca_file` beside it.

    Raises:
        SetupError: when that file cannot be used.
    """
    return _http_trust(settings.http_ca_file)


@cache
def _http_trust(ca_file: str) -> ssl.SSLContext:
    context = _context("the machine's trust store")
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except OSError as exc:
            raise _unusable("http_ca_file", ca_file, exc) from exc
    return context


def _context(named: str, ca_file: str | None = None, ca_path: str | None = None, ca_data: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts what is named, or the machine's trust store, and at least TLS 1.2."""
    try:
        context = ssl.create_default_context(cafile=ca_file, capath=ca_path, cadata=ca_data)
    except OSError as exc:
        raise _unusable(named, ca_file or ca_path or "", exc) from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _show(context: ssl.SSLContext, cert_file: str, key_file: str | None, password: str | None) -> None:
    try:
        context.load_cert_chain(cert_file, key_file, password)
    except OSError as exc:
        raise _unusable("ssl_certfile in redis_url", cert_file, exc) from exc


def _unusable(named: str, path: str, exc: OSError) -> SetupError:
    # An SSLError has a number of OpenSSL's, whose meaning strerror does not know.
    why = exc.strerror if not isinstance(exc, ssl.SSLError) and exc.strerror else "no certificates in PEM"
    return SetupError(f"{named}: {Path(path)} cannot be used ({why}).")


def why_untrusted(exc: BaseException, ca_setting: str) -> str | None:
    """Return in words what TLS found wrong with a server; None where it was something else that failed.

    Args:
        exc: what the driver raised: TLS' own error stands below it, or in its text.
        ca_setting: the setting that says whom to trust.
    """
    text = " ".join(map(str, _below(exc)))
    if refused := _REFUSED.search(text):
        why = refused[1].strip().rstrip(".")
        if "ostname mismatch" in why or "IP address mismatch" in why:
            return f"its certificate is for another name: {why}"
        return f"its certificate is not trusted: {why}; {ca_setting} names the CA that signed it"
    if broken := _SSL.search(text):
        return f"TLS failed: {broken[1]}; does it speak TLS on that port?"
    return None


def _below(exc: BaseException) -> Iterator[BaseException]:
    below: BaseException | None = exc
    while below is not None:
        yield below
        below = below.__cause__ or below.__context__
