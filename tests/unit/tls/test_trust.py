"""router.tls.trust: contexts that verify, and files that cannot be used."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from router.errors import SetupError
from router.mongo_client import open_mongo
from router.redis_client import open_redis
from router.settings import Settings
from router.tls.trust import http_trust, redis_trust, why_untrusted
from tests.certificates import Authority


def test_rediss_verifies(tmp_path: Path) -> None:
    """The certificate and the name; with a CA file that CA alone is trusted."""
    trust = redis_trust(Settings(redis_url="rediss://h"))
    assert trust is not None
    assert trust.verify_mode is ssl.CERT_REQUIRED
    assert trust.check_hostname
    assert trust.minimum_version is ssl.TLSVersion.TLSv1_2
    own = redis_trust(Settings(redis_url="rediss://h", redis_ca_file=str(Authority(tmp_path).file)))
    assert own is not None
    assert len(own.get_ca_certs()) == 1
    assert redis_trust(Settings(redis_url="redis://h")) is None


def test_parameters_of_the_address(tmp_path: Path) -> None:
    """A certificate of our own, ciphers and the least version are taken from the address, as the driver would."""
    authority = Authority(tmp_path)
    pair = authority.issue("me")
    url = f"rediss://localhost?ssl_certfile={pair.cert}&ssl_keyfile={pair.key}&ssl_min_version=772&ssl_cert_reqs=none"
    trust = redis_trust(Settings(redis_url=url))
    assert trust is not None
    assert trust.minimum_version is ssl.TLSVersion.TLSv1_3
    assert trust.verify_mode is ssl.CERT_NONE
    assert not trust.check_hostname


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | None) -> None:
    """Before anything is connected."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    named = f"{path} cannot be used"
    with pytest.raises(SetupError, match=f"redis_ca_file: {named}"):
        open_redis(Settings(redis_url="rediss://h", redis_ca_file=str(path)))
    with pytest.raises(SetupError, match=f"mongo_ca_file: {named}"):
        open_mongo(Settings(mongo_url="mongodb://h/?tls=true", mongo_ca_file=str(path)))
    with pytest.raises(SetupError, match=f"http_ca_file: {named}"):
        http_trust(Settings(http_ca_file=str(path)))


def test_http_trusts_the_machine_too(tmp_path: Path) -> None:
    """Of two addresses one may be a public service's and the other our own."""
    alone = len(http_trust(Settings()).get_ca_certs())
    assert len(http_trust(Settings(http_ca_file=str(Authority(tmp_path).file))).get_ca_certs()) == alone + 1


def test_what_failed_is_told_in_words() -> None:
    """Whether the name or the CA is wrong, or nobody speaks TLS there; anything else is not TLS' to tell."""
    wrong_name = (
        "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, certificate is not valid for 'h'."
    )
    assert "is for another name: Hostname mismatch" in str(why_untrusted(OSError(wrong_name + " (_ssl.c:1016)"), "x"))
    unknown = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer certificate (_ssl.c:1016)"
    told = str(why_untrusted(OSError(unknown), "redis_ca_file"))
    assert (
        told
        == "its certificate is not trusted: unable to get local issuer certificate; redis_ca_file names the CA that signed it"
    )
    plain = "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1016)"
    assert "does it speak TLS" in str(why_untrusted(OSError(plain), "x"))
    assert why_untrusted(ConnectionRefusedError(111, "Connection refused"), "x") is None
