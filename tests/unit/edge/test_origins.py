"""edge.origins: which web pages may connect."""

from __future__ import annotations

import pytest

from edge.origins import is_allowed


@pytest.mark.parametrize("allowed", [(), ("https://app.example.com",), ("*",)])
def test_what_is_no_page_is_let_in(allowed: tuple[str, ...]) -> None:
    """It sends no origin, and a lock that it could pick is none."""
    assert is_allowed(None, "push.example.com", allowed)


@pytest.mark.parametrize(
    ("origin", "host", "let_in"),
    [
        ("https://push.example.com", "push.example.com", True),
        ("http://push.example.com:8000", "push.example.com:8002", True),
        ("https://PUSH.example.com", "push.Example.com", True),
        ("http://localhost:8000", "127.0.0.1:8002", True),
        ("http://127.0.0.1:8000", "[::1]:8002", True),
        ("https://app.example.com", "push.example.com", False),
        ("http://localhost", "push.example.com", False),
        ("https://push.example.com.evil.net", "push.example.com", False),
        ("https://evil.net/push.example.com", "push.example.com", False),
        ("https://push.example.com@evil.net", "push.example.com", False),
        ("null", "push.example.com", False),
        ("", "push.example.com", False),
        ("", "", False),
        ("http://[::1", "[::1", False),
    ],
)
def test_unless_set_pages_of_the_own_host_are_let_in(origin: str, host: str, *, let_in: bool) -> None:
    """Whatever their scheme and port; names of this machine are one host."""
    assert is_allowed(origin, host, ()) is let_in


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("https://app.example.com", True),
        ("HTTPS://APP.EXAMPLE.COM", True),
        ("https://a.wild.example", True),
        ("https://a.b.wild.example", True),
        ("http://app.example.com", False),
        ("https://app.example.com:8443", False),
        ("https://app.example.com.evil.net", False),
        ("https://wild.example", False),
        ("https://evil.net/.wild.example", False),
        ("https://appxexample.com", False),
        ("https://push.example.com", False),
        ("null", False),
    ],
)
def test_list(origin: str, *, let_in: bool) -> None:
    """An origin is one of the list, whole; a star is a part of a name. The edge's own host is on it where it says so."""
    assert is_allowed(origin, "push.example.com", ("https://app.example.com/", "https://*.wild.example")) is let_in


def test_star() -> None:
    """Lets in every page, one without a site as well."""
    assert is_allowed("null", "push.example.com", ("*",))
