"""deploy/: each service is a Redis user of its own and sees the secrets that it needs, in compose and in Kubernetes."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import yaml

from router.redis_users import USERS, acl_lines

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
OURS: Final = {name: service for name, service in COMPOSE["services"].items() if service["image"] == "pushway"}
WORKLOADS: Final[dict[str, dict[str, Any]]] = {
    found["spec"]["template"]["spec"]["containers"][0]["name"]: found["spec"]["template"]["spec"]
    for path in (DEPLOY / "kubernetes").glob("*.yaml")
    for found in yaml.safe_load_all(path.read_text(encoding="utf-8"))
    if found.get("kind") in {"Deployment", "Job"}
}

NEEDS: Final[Mapping[str, set[str]]] = {
    "migrate": {"mongo_url"},
    "auth": {"redis_url", "mongo_url", "api_key"},
    "collect": {"redis_url", "mongo_url", "api_key"},
    "dispatch": {"redis_url"},
    "edge": {"redis_url", "mongo_url"},
    "admin": {"redis_url", "mongo_url", "api_key"},
}
"""Settings that are secret, by the service that asks for them. `admin` is of compose: it runs the commands for people."""


def _files(variables: Mapping[str, str]) -> dict[str, str]:
    """Return setting → file, of the variables that name one."""
    ending = "_FILE"
    return {
        name.removeprefix("PUSHWAY_").removesuffix(ending).lower(): value
        for name, value in variables.items()
        if name.endswith(ending)
    }


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Return the folder that the script of compose has filled."""
    shutil.copytree(DEPLOY / "redis", tmp_path / "redis")
    (tmp_path / "compose").mkdir()
    shutil.copy(DEPLOY / "compose" / "secrets.sh", tmp_path / "compose")
    _make_secrets(tmp_path / "compose")
    return tmp_path / "compose" / "secrets"


def _make_secrets(compose: Path) -> None:
    subprocess.run(["/bin/sh", str(compose / "secrets.sh")], check=True)


def _read(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_compose_has_each_secret_that_is_made(secrets: Path) -> None:
    """And no other. The producers' address is for those who are outside of the containers."""
    of_file = {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert of_file == {f"secrets/{path.name}" for path in secrets.iterdir()} - {"secrets/redis_producer_url"}


def test_secrets_are_made_once(secrets: Path) -> None:
    """A second run leaves all as it is: the passwords of a system that has data already are not changed."""
    made = _read(secrets)
    _make_secrets(secrets.parent)
    assert made == _read(secrets)
    assert secrets.stat().st_mode & 0o077 == 0
    assert len(made["api_key"]) == 64


def test_redis_is_told_of_the_users_anew(secrets: Path) -> None:
    """A new version that gives a user other rights is not held up by what a run of before has written."""
    made = _read(secrets)
    users = secrets.parents[1] / "redis" / "users.acl"
    users.write_text(users.read_text(encoding="utf-8").replace("user pushway-edge on", "user pushway-edge on +lolwut"), "utf-8")
    _make_secrets(secrets.parent)
    now = _read(secrets)
    assert " +lolwut " in now.pop("redis_users")
    assert now.items() < made.items()


def test_redis_is_told_the_digests_of_all_users(secrets: Path) -> None:
    """The ACL file is that of deploy/redis, with which the tests run the whole system, and a password a user."""
    made = _read(secrets)
    digests = {}
    for user in USERS:
        url = urlsplit(made[f"redis_{user.name.removeprefix('pushway-')}_url"])
        assert url.username == user.name
        assert url.hostname == ("127.0.0.1" if user.name == "pushway-producer" else "redis")
        assert len(url.password or "") == 64
        digests[user.name] = sha256((url.password or "").encode()).hexdigest()
    assert made["redis_users"].splitlines() == list(acl_lines("push", digests))
    assert len(set(digests.values())) == len(USERS)


@pytest.mark.parametrize("name", OURS)
def test_a_container_sees_what_it_needs(name: str) -> None:
    """In compose: each secret that its variables name, as the Redis user that it is, and no other secret."""
    service = OURS[name]
    files = _files(service["environment"])
    seen = {word: word for word in service["secrets"] if isinstance(word, str)}
    seen |= {word["target"]: word["source"] for word in service["secrets"] if not isinstance(word, str)}
    assert files == {setting: f"/run/secrets/{setting}" for setting in NEEDS[name]}
    assert seen.keys() == NEEDS[name]
    assert seen.get("redis_url", f"redis_{name}_url") == f"redis_{name}_url"


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_pod_sees_what_it_needs(name: str) -> None:
    """In Kubernetes likewise, by the files that `pushway acl --passwords` writes."""
    (container,) = WORKLOADS[name]["containers"]
    (volume,) = (volume["projected"] for volume in WORKLOADS[name]["volumes"] if volume["name"] == "secrets")
    (mounted,) = (mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "secrets")
    files = _files({one["name"]: one.get("value", "") for one in container["env"]})
    assert files == {setting: f"{mounted}/{setting}" for setting in NEEDS[name]}
    seen = dict(_items(volume["sources"]))
    redis = {"redis_url": ("pushway-redis", f"pushway-{name}.url")} if "redis_url" in NEEDS[name] else {}
    assert seen == {setting: ("pushway", setting) for setting in NEEDS[name]} | redis


def _items(sources: Sequence[dict[str, Any]]) -> list[tuple[str, tuple[str, str]]]:
    """Return file → secret and key."""
    secrets = [source["secret"] for source in sources]
    return [(item["path"], (secret["name"], item["key"])) for secret in secrets for item in secret["items"]]


def test_services_are_named_alike() -> None:
    """Nobody is forgotten above."""
    assert OURS.keys() == NEEDS.keys()
    assert WORKLOADS.keys() == NEEDS.keys() - {"admin"}
