"""The certificate that a door of ours shows: two files, and the context that handshakes take from now on.

Theory of operation. A certificate lives for weeks and a connection for days, so a new one is taken in while both go on. The
files are looked at now and then, whole, since a link that is changed shows in no date. A pair that fits becomes a context of
its own, which new connections take; those that stand keep theirs. A pair that does not fit, as when one file has been replaced
and the other is about to be, leaves everything as it was.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple
from weakref import WeakSet

import anyio
import anyio.to_thread
import structlog
from cryptography import x509

from router.errors import SetupError
from router.metrics import CERTIFICATE_EXPIRES
from router.settings import Settings

Door = Literal["edge", "http"]

log = structlog.get_logger(__name__)

_served: Final[WeakSet[Certificate]] = WeakSet()
"""All of this process: a signal is sent to no one of them."""


class Unfit(Exception):
    """Two files are not what handshakes could be made with; the text says why."""


class Pair(NamedTuple):
    """A certificate with its key.

    Attributes:
        context: what handshakes are made with.
        begins_at: from when on it is good.
        expires_at: until when.
        names: whom it is for: host names and addresses.
    """

    context: ssl.SSLContext
    begins_at: datetime
    expires_at: datetime
    names: tuple[str, ...]


class Certificate:
    """What a door shows.

    Args:
        door: for logs and figures.
        cert_file: the certificate and those that lead to its CA, in PEM.
        key_file: its key, in PEM.
        reload_s: how often the files are looked at.

    Attributes:
        context: what a new connection takes.

    Raises:
        SetupError: when the files do not fit.
    """

    def __init__(self, door: Door, cert_file: str, key_file: str, reload_s: float) -> None:
        self._door = door
        self._files = Path(cert_file), Path(key_file)
        self._reload_s = reload_s
        self._soon = anyio.Event()
        try:
            self._seen: object = _contents(*self._files)
            pair = read_pair(*self._files)
        except Unfit as exc:
            raise SetupError(f"{door}_tls_cert_file and {door}_tls_key_file cannot be used: {exc}.") from exc
        # Whoever does not mind gets in, and the others are told why they do not: more than from a door that is shut.
        if why := out_of_date(pair, datetime.now(UTC)):
            log.warning("certificate_found_out_of_date", door=door, why=why)
        self.context = pair.context
        CERTIFICATE_EXPIRES.labels(door=door).set(pair.expires_at.timestamp())
        _served.add(self)

    async def run(self) -> None:
        """Look at the files every `reload_s`, and when asked to, until cancelled."""
        while True:
            with anyio.move_on_after(self._reload_s):
                await self._soon.wait()
            self._soon = anyio.Event()
            await anyio.to_thread.run_sync(self.look)

    def look_soon(self) -> None:
        """Have the files looked at now."""
        self._soon.set()

    def look(self) -> None:
        """Take a new pair where there is one that fits; of one that does not, say so once."""
        found: object
        try:
            found = _contents(*self._files)
        except Unfit as exc:
            found = str(exc)
        if found == self._seen:
            return
        self._seen = found
        try:
            self._take()
        except Unfit as exc:
            log.warning("certificate_refused", door=self._door, why=str(exc))

    def _take(self) -> None:
        pair = read_pair(*self._files)
        if why := out_of_date(pair, datetime.now(UTC)):
            raise Unfit(why)
        self.context = pair.context
        CERTIFICATE_EXPIRES.labels(door=self._door).set(pair.expires_at.timestamp())
        log.info("certificate_taken", door=self._door, expires_at=pair.expires_at.isoformat())


def look_again() -> None:
    """Have the files of every certificate of this process looked at now."""
    for certificate in _served:
        certificate.look_soon()


def edge_certificate(settings: Settings) -> Certificate | None:
    """Return what an edge shows; None where it speaks plainly.

    Raises:
        SetupError: when the files do not fit.
    """
    return _certificate("edge", settings.edge_tls_cert_file, settings.edge_tls_key_file, settings)


def http_certificate(settings: Settings) -> Certificate | None:
    """Return what auth and the API show; None where they speak plainly.

    Raises:
        SetupError: when the files do not fit.
    """
    return _certificate("http", settings.http_tls_cert_file, settings.http_tls_key_file, settings)


def _certificate(door: Door, cert_file: str, key_file: str, settings: Settings) -> Certificate | None:
    return Certificate(door, cert_file, key_file, settings.tls_reload_s) if cert_file else None


def read_pair(cert_file: Path, key_file: Path) -> Pair:
    """Return what stands in the two files.

    Raises:
        Unfit: when it cannot be read, or the key is another's, or one of the files changes meanwhile.
    """
    before = _contents(cert_file, key_file)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A client could have a handshake made anew and anew, which costs us far more than itself.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert_file, key_file, _no_password)
        leaf = x509.load_pem_x509_certificate(before[0])
    except (OSError, ValueError) as exc:
        raise Unfit(_why(exc)) from exc
    if _contents(cert_file, key_file) != before:
        raise Unfit("they change while they are read")
    return Pair(context, leaf.not_valid_before_utc, leaf.not_valid_after_utc, _names(leaf))


def out_of_date(pair: Pair, now: datetime) -> str:
    """Return why a certificate is good for nobody at this time; "" where it is good."""
    if now < pair.begins_at:
        return f"the certificate begins on {pair.begins_at:%Y-%m-%d %H:%M} UTC"
    return f"the certificate was over on {pair.expires_at:%Y-%m-%d %H:%M} UTC" if now >= pair.expires_at else ""


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        of = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:  # then it is for nobody: what stands in the subject counts no more (RFC 9525)
        return ()
    return (*of.get_values_for_type(x509.DNSName), *map(str, of.get_values_for_type(x509.IPAddress)))


def _contents(cert_file: Path, key_file: Path) -> tuple[bytes, bytes]:
    try:
        return cert_file.read_bytes(), key_file.read_bytes()
    except OSError as exc:
        raise Unfit(f"{exc.filename} cannot be read ({exc.strerror})") from exc


def _no_password() -> str:
    # Unless told otherwise, OpenSSL asks for it on the terminal.
    raise ValueError("the key has a password")


def _why(exc: Exception) -> str:
    known = {
        "KEY_VALUES_MISMATCH": "the key is not the certificate's",
        "KEY_TYPE_MISMATCH": "the key is not the certificate's",
        "EE_KEY_TOO_SMALL": "the key is too short to be safe",
        "NO_START_LINE": "a certificate and a private key in PEM are expected",
    }
    reason = getattr(exc, "reason", None) or ""
    return known.get(reason) or (known["NO_START_LINE"] if isinstance(exc, ssl.SSLError) else str(exc))
