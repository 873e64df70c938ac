"""router.redis_url: what an address says."""

from __future__ import annotations

import pytest

from router.redis_url import Address, AddressRefused, RedisUrl, read_url


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6390/0",
        "rediss://user:p%40ss@redis.example.com/2?ssl_ca_certs=/ca.pem",
        "redis://[::1]:6380",
        "redis://:secret@host",
        "redis://",
    ],
)
def test_one_server_is_left_to_the_driver(url: str) -> None:
    """Its address is not touched."""
    told = read_url(url)
    assert (told.driver_url, told.cluster, told.sentinel) == (url, False, "")


def test_a_unix_socket_has_no_host() -> None:
    """Nor port."""
    assert read_url("unix:///run/redis.sock?db=1") == RedisUrl("unix:///run/redis.sock?db=1", ())


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    """User, password and what else the driver is told stay."""
    told = read_url("rediss://u:p@a:7000,[::1]:7001,c/?cluster=true&ssl_ca_certs=%2Fca.pem")
    assert told.cluster
    assert told.addresses == (Address("a", 7000), Address("::1", 7001), Address("c", 6379))
    assert told.driver_url == "rediss://u:p@a:7000/?ssl_ca_certs=%2Fca.pem"


def test_sentinels_have_a_port_and_a_password_of_their_own() -> None:
    """And the number of the database stays."""
    told = read_url("redis://u:p@s1,s2:5000/3?sentinel=main&sentinel_password=x")
    assert told.addresses == (Address("s1", 26379), Address("s2", 5000))
    assert (told.sentinel, told.sentinel_password, told.driver_url) == ("main", "x", "redis://u:p@s1:26379/3")


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://a,b/", "several hosts"),
        ("redis://a/1?cluster=true", "one database"),
        ("redis://a?cluster=perhaps", "true or false"),
        ("redis://a?sentinel=", "name"),
        ("redis://a?sentinel=x&cluster=yes", "exclude"),
        ("redis://user:secret@a:b,c/?cluster=true", "host:port"),
        ("redis://user:secret/more@a", "host:port"),
        ("redis://a:65536", "host:port"),
        ("redis://a:²", "host:port"),
    ],
)
def test_what_cannot_be_meant_is_refused(url: str, problem: str) -> None:
    """With what is wrong, and without the password."""
    with pytest.raises(AddressRefused, match=problem) as refused:
        read_url(url)
    assert "secret" not in str(refused.value)
