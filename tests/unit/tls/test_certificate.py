"""router.tls.certificate: a fit new pair is taken, and nothing else is."""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from structlog.testing import capture_logs

from router.errors import SetupError
from router.metrics import CERTIFICATE_EXPIRES
from router.tls.certificate import Certificate, look_again, read_pair
from tests.certificates import Authority, Pair
from tests.integration.edges import eventually

NEVER_S = 3_600.0


def _certificate(pair: Pair, reload_s: float = NEVER_S) -> Certificate:
    return Certificate("edge", str(pair.cert), str(pair.key), reload_s)


def _expires() -> float:
    return float(CERTIFICATE_EXPIRES.labels(door="edge")._value.get())


def test_same_files_stay_the_same_context(tmp_path: Path) -> None:
    """Also when they are written anew with what stood there."""
    pair = Authority(tmp_path).issue("h")
    certificate = _certificate(pair)
    context = certificate.context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    pair.cert.write_bytes(pair.cert.read_bytes())
    certificate.look()
    assert certificate.context is context


def test_new_pair_is_taken(tmp_path: Path) -> None:
    """From then on new connections have its context, and the figure says until when it is good."""
    authority = Authority(tmp_path)
    certificate = _certificate(authority.issue("h"))
    context = certificate.context
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(days=5)
    authority.issue("h", expires_at=end)
    with capture_logs() as logs:
        certificate.look()
        certificate.look()
    assert certificate.context is not context
    assert _expires() == end.timestamp()
    assert [line["event"] for line in logs] == ["certificate_taken"]


def _another_key(pair: Pair, authority: Authority) -> None:
    pair.key.write_bytes(authority.issue("h", file="other").key.read_bytes())


def _no_pem(pair: Pair, authority: Authority) -> None:
    del authority
    pair.cert.write_text("half a file")


def _no_file(pair: Pair, authority: Authority) -> None:
    del authority
    pair.key.unlink()


def _over(pair: Pair, authority: Authority) -> None:
    del pair
    authority.issue("h", expires_at=datetime.now(UTC) - timedelta(days=1))


def _locked(pair: Pair, authority: Authority) -> None:
    del authority
    key = load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"word")))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_another_key, "the key is not the certificate's"),
        (_no_pem, "in PEM are expected"),
        (_no_file, r"server\.key cannot be read \(No such file"),
        (_over, "the certificate was over on"),
        (_locked, "the key has a password"),
    ],
)
def test_unfit_pair_leaves_all_as_it_was(tmp_path: Path, spoil: object, why: str) -> None:
    """It is said once, however often it is looked at; and what stood before may come back."""
    authority = Authority(tmp_path)
    pair = authority.issue("h")
    certificate = _certificate(pair)
    before, context, until = (pair.cert.read_bytes(), pair.key.read_bytes()), certificate.context, _expires()
    assert callable(spoil)
    spoil(pair, authority)
    with capture_logs() as logs:
        for _ in range(3):
            certificate.look()
    assert certificate.context is context
    assert _expires() == until
    assert [line["event"] for line in logs] == ["certificate_refused"]
    assert re.search(why, str(logs[0]["why"]))
    pair.cert.write_bytes(before[0])
    pair.key.write_bytes(before[1])
    with capture_logs() as logs:
        certificate.look()
    assert [line["event"] for line in logs] == ["certificate_taken"]


@pytest.mark.parametrize("spoil", [_another_key, _no_pem, _no_file, _locked])
def test_unfit_pair_starts_nothing(tmp_path: Path, spoil: object) -> None:
    """The error names the settings."""
    authority = Authority(tmp_path)
    pair = authority.issue("h")
    assert callable(spoil)
    spoil(pair, authority)
    with pytest.raises(SetupError, match=r"^edge_tls_cert_file and edge_tls_key_file cannot be used: "):
        _certificate(pair)


def test_certificate_that_is_over_is_served_at_the_start(tmp_path: Path) -> None:
    """Whoever comes is told so by TLS, and the log says it too: to be shut would tell them less."""
    pair = Authority(tmp_path).issue("h", expires_at=datetime.now(UTC) - timedelta(days=1))
    with capture_logs() as logs:
        _certificate(pair)
    assert [line["event"] for line in logs] == ["certificate_found_out_of_date"]


def test_names_are_those_of_the_extension(tmp_path: Path) -> None:
    """Hosts and addresses alike."""
    pair = Authority(tmp_path).issue("push.example.com", "*.example.net", "127.0.0.1", "::1")
    assert set(read_pair(*pair).names) == {"push.example.com", "*.example.net", "127.0.0.1", "::1"}


@pytest.mark.anyio
async def test_files_are_looked_at_when_asked(tmp_path: Path) -> None:
    """Long before their turn."""
    authority = Authority(tmp_path)
    certificate = _certificate(authority.issue("h"))
    context = certificate.context
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(certificate.run)
        await anyio.lowlevel.checkpoint()
        authority.issue("h")
        look_again()
        await eventually(lambda: certificate.context is not context)
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_files_are_looked_at_now_and_then(tmp_path: Path) -> None:
    """Nobody needs to send a signal."""
    authority = Authority(tmp_path)
    certificate = _certificate(authority.issue("h"), reload_s=0.01)
    context = certificate.context
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(certificate.run)
        authority.issue("h")
        await eventually(lambda: certificate.context is not context)
        tasks.cancel_scope.cancel()
