"""router.doctor.hardening: what is thought of how a system is kept from others."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from router.doctor.examination import GROUPS
from router.doctor.findings import Finding, Severity
from router.doctor.hardening import RedisAccess, acts_refused, judge
from router.redis_users import USERS, RedisUser
from router.settings import Settings

KEPT = RedisAccess("pushway-operator", open=False, too_much={})
EVERYWHERE = "0.0.0.0"  # noqa: S104 - it is judged, not bound
SECURITY = Path(__file__).parents[3] / "docs" / "security.md"


def _settings(**own: Any) -> Settings:  # noqa: ANN401 - settings
    return Settings(api_key="k" * 32, **own)


def _only(found: list[Finding], severity: Severity, *said: str) -> None:
    assert [finding.severity for finding in found] == [severity], found
    assert all(word in found[0].seen for word in said), found
    assert severity in (Severity.OK, Severity.NOTE) or found[0].remedy


def test_one_machine_needs_none_of_it() -> None:
    """All addresses are its own, and what `up` does is no more than a note."""
    _only(judge(_settings(), KEPT, {"key.pem": 0o600}), Severity.OK, "nothing is open")
    _only(judge(_settings(), None, {}), Severity.OK)
    _only(judge(_settings(), RedisAccess("default", open=True, too_much={}), {}), Severity.NOTE, "no", "this machine")


@pytest.mark.parametrize("name", ["edge_host", "api_host", "auth_host"])
def test_what_faces_others_speaks_tls(name: str) -> None:
    """A warning where that may be the internet, a note where a balancer may stand before it."""
    for host in (EVERYWHERE, "::", "8.8.8.8"):
        _only(judge(_settings(**{name: host}), KEPT, {}), Severity.WARNING, f"listens on {host} without TLS")
    _only(judge(_settings(**{name: "10.0.0.7"}), KEPT, {}), Severity.NOTE, "10.0.0.7")
    _only(judge(_settings(**{name: "::1"}), KEPT, {}), Severity.OK)


@pytest.mark.parametrize(("host", "severity"), [(EVERYWHERE, Severity.WARNING), ("10.1.2.3", Severity.NOTE)])
def test_figures_are_for_monitoring_alone(host: str, severity: Severity) -> None:
    """Nobody is asked who he is on an ops port."""
    _only(judge(_settings(ops_host=host), KEPT, {}), severity, "/metrics", host)


@pytest.mark.parametrize(
    ("changes", "severity", "said"),
    [
        ({"redis_url": "redis://u:p@8.8.8.8/0"}, Severity.WARNING, "redis_url leads to 8.8.8.8"),
        ({"redis_url": "redis://u:p@redis.internal/0"}, Severity.NOTE, "redis_url leads to redis.internal"),
        ({"redis_url": "rediss://u:p@redis.internal/0"}, Severity.OK, ""),
        ({"mongo_url": "mongodb://u:p@db.internal/"}, Severity.NOTE, "mongo_url leads to db.internal"),
        ({"mongo_url": "mongodb://u:p@db.internal/?replicaSet=a&tls=true"}, Severity.OK, ""),
        ({"mongo_url": "mongodb+srv://u:p@db.example.com/"}, Severity.OK, ""),
        ({"edge_origins": ("*",)}, Severity.WARNING, "edge_origins"),
        ({"edge_origins": ("https://app.example.com",)}, Severity.OK, ""),
    ],
)
def test_settings_that_let_others_in(changes: dict[str, Any], severity: Severity, said: str) -> None:
    """Passwords and messages on the way, and pages of anybody; no finding quotes a password."""
    found = judge(_settings(**changes), KEPT, {})
    _only(found, severity, said)
    assert "u:p" not in found[0].seen


def test_an_open_redis_elsewhere_is_an_error() -> None:
    """Whoever reaches it reads and sends all."""
    settings = _settings(redis_url="rediss://redis.internal/0")
    _only(judge(settings, RedisAccess("default", open=True, too_much={}), {}), Severity.ERROR, "nobody for a password")
    _only(judge(settings, RedisAccess("default", open=False, too_much={}), {}), Severity.NOTE, "`default`")


def test_users_who_may_too_much_are_named() -> None:
    """With what it is; where that may not be asked, it is said as whom it may."""
    access = RedisAccess("pushway-operator", open=False, too_much={"pushway-edge": ["FLUSHALL", "XADD push:{0}:out"]})
    _only(judge(_settings(), access, {}), Severity.WARNING, "pushway-edge", "FLUSHALL", "XADD push:{0}:out")
    _only(judge(_settings(), RedisAccess("pushway-edge", open=False, too_much=None), {}), Severity.NOTE, "as pushway-edge")


def test_files_of_secrets_are_the_owner_s() -> None:
    """Those that variables name too."""
    _only(judge(_settings(), KEPT, {"/run/secret": 0o640}), Severity.WARNING, "/run/secret", "0640")


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_no_user_is_granted_what_is_tried(user: RedisUser) -> None:
    """Or doctor would warn of deploy/redis/users.acl itself; each is tried for more than the usual."""
    acts = list(acts_refused(user, "push"))
    assert ("FLUSHALL",) in acts
    assert len(acts) >= 6


def test_the_checklist_names_groups_that_there_are() -> None:
    """And whoever reads a finding gets to it."""
    text = SECURITY.read_text(encoding="utf-8")
    assert "## Checklist" in text
    groups = {"hardening", "certificates", "settings", "Redis"}
    assert groups <= set(GROUPS)
    assert groups <= set(re.findall(r"`(\w+)`", text))
