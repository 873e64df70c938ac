"""Certificates: that the files of our doors fit, and that neither they nor what is shown there ends soon."""

from __future__ import annotations

import socket
import ssl
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from cryptography import x509

from router.doctor.findings import Finding, error, ok, warning
from router.settings import Settings
from router.tls.certificate import Unfit, out_of_date, read_pair

WARN_BEFORE: Final = timedelta(days=14)
"""An ACME client renews with 30 days left: with 14 it has failed for a while."""

_OPEN_TO_OTHERS: Final = 0o077
_PORTS: Final = {"https": 443, "wss": 443}


@dataclass(frozen=True, slots=True)
class Seen:
    """A certificate somewhere.

    Attributes:
        where: the file, or the address.
        expires_at: when it is over.
    """

    where: str
    expires_at: datetime


async def examine(settings: Settings) -> list[Finding]:
    """Return what is to be thought of the certificates of this machine's files, and of those that our addresses show.

    Who shows nothing is passed over here: the groups of auth and of edges look whether they answer.
    """
    found: list[Finding] = []
    now = datetime.now(UTC)
    for door in ("edge", "http"):
        cert_file, key_file = getattr(settings, f"{door}_tls_cert_file"), getattr(settings, f"{door}_tls_key_file")
        if cert_file:
            found += await anyio.to_thread.run_sync(judge_files, door, Path(cert_file), Path(key_file), now)
    shown = [await _shown(url, settings.auth_timeout_s) for url in addresses(settings)]
    found += judge([seen for seen in shown if seen], now)
    return found or [ok("none is set or shown: edges, auth and the API speak plainly, as behind what ends TLS for them")]


def addresses(settings: Settings) -> list[str]:
    """Return which of the addresses that these settings name are reached over TLS."""
    named = (settings.auth_url, settings.edge_address, *settings.edge_urls)
    return [url for url in dict.fromkeys(named) if urlsplit(url).scheme in _PORTS]


def judge_files(door: str, cert_file: Path, key_file: Path, now: datetime) -> list[Finding]:
    """Return what is to be thought of the files of a door."""
    try:
        pair = read_pair(cert_file, key_file)
    except Unfit as exc:
        seen = f"{door}_tls_cert_file and {door}_tls_key_file cannot be used ({exc}): no service starts with them"
        return [error(seen, "put a certificate and its key there, in PEM; a running service goes on with those it had")]
    if begins := out_of_date(pair, now) if now < pair.begins_at else "":
        return [error(f"{cert_file}: {begins}", "is this machine's clock right?")]
    return [*judge([Seen(str(cert_file), pair.expires_at)], now), *_judge_mode(key_file)]


def judge(certificates: Sequence[Seen], now: datetime) -> Iterator[Finding]:
    """Yield what is to be thought of when certificates end."""
    for seen in certificates:
        left = seen.expires_at - now
        told = f"the certificate of {seen.where}"
        if left <= timedelta(0):
            yield error(f"{told} was over on {seen.expires_at:%Y-%m-%d}: nobody who looks gets in", _RENEW)
        elif left < WARN_BEFORE:
            yield warning(f"{told} is over on {seen.expires_at:%Y-%m-%d}, in {left.days} days", _RENEW)
        else:
            yield ok(f"{told} is good until {seen.expires_at:%Y-%m-%d}")


_RENEW: Final = "renew it; services take a new pair of files by themselves within tls_reload_s, or at once by SIGHUP"


def _judge_mode(key_file: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(key_file.stat().st_mode)
    if mode & _OPEN_TO_OTHERS:
        yield warning(f"{key_file} proves who we are and others may read it (mode {mode:04o})", f"chmod 600 {key_file}")


async def _shown(url: str, timeout_s: float) -> Seen | None:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        leaf = await anyio.to_thread.run_sync(_leaf, host, port, timeout_s)
    except (OSError, ValueError):
        return None
    return Seen(f"{parts.scheme}://{host}:{port}", leaf.not_valid_after_utc)


def _leaf(host: str, port: int, timeout_s: float) -> x509.Certificate:
    # Whoever it is: what is asked here is only what it shows, and nothing is told to it.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, port), timeout_s) as plain, context.wrap_socket(plain, server_hostname=host) as tls:
        return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")
