"""router.tls.addresses: what switches verification off is refused, by name and without a password in the text."""

from __future__ import annotations

import pytest

from router.errors import SettingError
from router.settings import load_settings
from router.tls.addresses import mongo_has_tls

REDIS = "rediss://user:hidden@redis.example.com:6380/0"
MONGO = "mongodb://user:hidden@a.example.com,b.example.com/?tls=true"


def _refusal(**settings: str) -> str:
    with pytest.raises(SettingError) as found:
        load_settings(environ={}, flags=settings)
    assert "hidden" not in str(found.value)
    return str(found.value)


@pytest.mark.parametrize(
    "parameter",
    [
        *("ssl_cert_reqs=none", "ssl_cert_reqs=optional", "ssl_cert_reqs=NONE"),
        *("ssl_check_hostname=false", "ssl_check_hostname=False", "ssl_check_hostname=0", "ssl_check_hostname=off"),
    ],
)
def test_redis_is_verified(parameter: str) -> None:
    """Whatever else may be meant by the value: only what surely verifies is taken."""
    name = parameter.partition("=")[0]
    assert f"redis_url (flag): {name}: it switches the verification" in _refusal(redis_url=f"{REDIS}?{parameter}")
    several = REDIS.replace("@", "@localhost,")
    assert "switches the verification" in _refusal(redis_url=f"{several}?{parameter}")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8:7000", "[::1]:6380", "u:p@localhost:1"])
def test_nobody_stands_between_a_machine_and_itself(host: str) -> None:
    """To this machine it may be switched off."""
    load_settings(environ={}, flags={"redis_url": f"rediss://{host}/0?ssl_cert_reqs=none"})
    load_settings(environ={}, flags={"mongo_url": f"mongodb://{host}/?tls=true&tlsInsecure=true"})


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://h?ssl_ca_certs=ca.pem", "ssl_ca_certs: it does nothing unless the address begins with rediss://"),
        (f"{REDIS}?ssl_validate_ocsp=true", "ssl_validate_ocsp: there is no such parameter"),
        (f"{REDIS}?ssl_exclude_verify_flags=VERIFY_X509_STRICT", "ssl_exclude_verify_flags: there is no such parameter"),
        (f"{REDIS}?ssl_min_version=769", "771 (TLS 1.2) or 772"),
    ],
)
def test_parameters_of_redis_do_what_they_say(url: str, said: str) -> None:
    """One that would be passed over is refused, and so is a version of TLS that was broken long ago."""
    assert said in _refusal(redis_url=url)


@pytest.mark.parametrize(
    "parameter",
    [
        *("tlsInsecure=true", "tlsinsecure=TRUE", "tlsInsecure=1"),
        *("tlsAllowInvalidCertificates=true", "tlsAllowInvalidHostnames=true"),
    ],
)
@pytest.mark.parametrize("separator", ["&", ";"])
def test_mongodb_is_verified(parameter: str, separator: str) -> None:
    """In any spelling that the driver takes; one host elsewhere is enough."""
    assert "switches the verification" in _refusal(mongo_url=f"{MONGO}{separator}{parameter}")
    assert "switches the verification" in _refusal(mongo_url=f"mongodb://localhost,h/?tls=true{separator}{parameter}")
    assert "switches the verification" in _refusal(mongo_url=f"mongodb+srv://localhost/?{parameter}")


def test_what_verifies_is_taken() -> None:
    """The parameters by themselves are nobody's enemy."""
    load_settings(
        environ={}, flags={"redis_url": f"{REDIS}?ssl_cert_reqs=required&ssl_check_hostname=True&ssl_min_version=772"}
    )
    load_settings(environ={}, flags={"mongo_url": f"{MONGO}&tlsInsecure=false"})


def test_ca_of_nothing_is_refused() -> None:
    """Whoever names a CA believes that it does something."""
    assert "redis_ca_file (flag): it does nothing" in _refusal(redis_url="redis://h", redis_ca_file="ca.pem")
    assert "mongo_ca_file (flag): it does nothing" in _refusal(mongo_url="mongodb://h", mongo_ca_file="ca.pem")
    assert "whom to trust, too (ssl_ca_certs)" in _refusal(redis_url=f"{REDIS}?ssl_ca_certs=a", redis_ca_file="b")
    assert "whom to trust, too (tlsCAFile)" in _refusal(mongo_url=f"{MONGO}&tlsCAFile=a", mongo_ca_file="b")


@pytest.mark.parametrize("door", ["edge", "http"])
@pytest.mark.parametrize(("given", "missing"), [("cert", "key"), ("key", "cert")])
def test_certificate_and_key_come_together(door: str, given: str, missing: str) -> None:
    """One without the other starts nothing."""
    assert f"it takes {door}_tls_{missing}_file beside it" in _refusal(**{f"{door}_tls_{given}_file": "some.pem"})


def test_when_mongodb_is_reached_over_tls() -> None:
    """Said, or by the kind of address."""
    assert mongo_has_tls("mongodb://h/?tls=true")
    assert mongo_has_tls("mongodb://h/?SSL=True")
    assert mongo_has_tls("mongodb+srv://h/")
    assert not mongo_has_tls("mongodb+srv://h/?tls=false")
    assert not mongo_has_tls("mongodb://h/?tlsCAFile=x")
