"""All of it over TLS, as a user runs it: `pushway up` with certificates, on a Redis and a MongoDB that have theirs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.browser import JS, NODE
from tests.certificates import Authority, shown
from tests.e2e.command_line import HEARS_CTRL_C, PUSHWAY, TIMEOUT_S
from tests.e2e.test_up import Up
from tests.servers import DebianRedis, free_ports, wait_until
from tests.tls_servers import TlsRedis, TlsStore

pytestmark = pytest.mark.skipif(not DebianRedis.available(), reason="no redis-server here")

_JS: Final = """
import { Client } from "./pushway.js";
const [url, token] = process.argv.slice(2);
const onStatus = (status) => console.error(JSON.stringify(status));
const client = new Client({ urls: [url], token: () => token, onStatus });
for await (const { body } of client) console.log(JSON.stringify(body));
"""


class UpOverTls(Up):
    """A running `pushway up` with nothing plain in it but the ops ports."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.authority = Authority(folder)
        self.redis = TlsRedis(folder / "redis", self.authority)
        self.mongo = TlsStore(folder / "mongo", self.authority)
        pair = self.authority.issue("localhost", file="doors")
        ca, config = str(self.authority.file), folder / "mine.toml"
        files = {f"{door}_tls_{part}_file": str(getattr(pair, part)) for door in ("edge", "http") for part in ("cert", "key")}
        values = files | {"redis_ca_file": ca, "mongo_ca_file": ca, "http_ca_file": ca}
        config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items()), encoding="utf-8")
        self._words = ("--config", str(config), "--redis", self.redis.url, "--mongo", self.mongo.url)

    def command(self) -> list[str]:
        """Return the command line."""
        return [*super().command(), *self._words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Return what a command printed and ended with."""
        command = [*PUSHWAY, *words, "--config", self.report["config"]]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)

    def edge_port(self) -> int:
        """Return the port of the first edge."""
        return urlsplit(self.report["edges"][0]).port or 0


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpOverTls]:
    """Yield one that runs."""
    made = UpOverTls(tmp_path_factory.mktemp("tls"))
    with made.redis, made.mongo, made:
        yield made


def test_every_address_is_secure(up: UpOverTls) -> None:
    """What is printed is what clients use, and nodes say the same of themselves."""
    report = up.report
    assert {urlsplit(url).scheme for url in (report["api"], report["auth"])} == {"https"}
    assert {urlsplit(url).scheme for url in report["edges"]} == {"wss"}
    assert report["redis"].startswith("rediss://")
    assert "--cacert ca.pem" in report["append"]
    nodes = json.loads(up.run("nodes", "--json").stdout)
    assert sorted(node["address"] for node in nodes) == [url.removesuffix("/v1/connect") for url in report["edges"]]
    ready = httpx.get(f"{report['api']}/readyz", verify=up.authority.trust, trust_env=False)
    assert ready.json() == {"ready": True, "reasons": {}}
    page = httpx.get(f"{report['api']}/page/places", verify=up.authority.trust, trust_env=False).json()
    assert page["edges"] == report["edges"]


def test_a_message_goes_all_the_way(up: UpOverTls) -> None:
    """From `send` to `listen`, with a token from auth, a durable message, and its trace."""
    command = [*HEARS_CTRL_C, *PUSHWAY, "listen", "alice", "--since", "0", "--json", "--config", up.report["config"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as listener:
        try:
            assert listener.stderr is not None
            assert "listening as alice" in listener.stderr.readline()
            sent = up.run("send", "user:alice", '{"n":1}', "--trace")
            assert sent.returncode == 0, sent.stderr
            assert listener.stdout is not None
            assert json.loads(listener.stdout.readline())["body"] == {"n": 1}
        finally:
            listener.send_signal(signal.SIGINT)
            listener.wait(TIMEOUT_S)
    history = up.run("history", "user:alice", "--json")
    assert '"n":1' in history.stdout.replace(" ", "")


def test_doctor_sees_nothing_amiss(up: UpOverTls) -> None:
    """It reaches all of it as the services do, and says until when the certificates are good."""
    done = up.run("doctor", "--json")
    findings = {one["group"]: one["findings"] for one in json.loads(done.stdout)}
    assert [found for group in findings.values() for found in group if found["severity"] == "error"] == []
    told = " ".join(found["seen"] for found in findings["certificates"])
    assert "doors.pem is good until" in told
    assert f"wss://localhost:{up.edge_port()} is good until" in told


def test_a_certificate_is_replaced_beneath_a_session(up: UpOverTls) -> None:
    """SIGHUP to the edge: new handshakes see the new one, the session of before goes on."""
    command = [*HEARS_CTRL_C, *PUSHWAY, "listen", "bob", "--edge", "1", "--json", "--config", up.report["config"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as listener:
        try:
            assert listener.stderr is not None
            assert listener.stdout is not None
            assert "listening as bob" in listener.stderr.readline()
            before = shown(up.edge_port(), up.authority.trust)
            up.authority.issue("localhost", file="doors")
            os.kill(up.report["pids"]["edge-1"], signal.SIGHUP)
            wait_until(lambda: shown(up.edge_port(), up.authority.trust) not in {None, before}, "the new one is shown")
            assert up.run("send", "user:bob", '{"n":2}').returncode == 0
            assert json.loads(listener.stdout.readline())["body"] == {"n": 2}
        finally:
            listener.send_signal(signal.SIGINT)
            _, told = listener.communicate(timeout=TIMEOUT_S)
    assert "not connected" not in told


@pytest.mark.skipif(NODE is None, reason="no node here")
def test_the_javascript_client_speaks_wss(up: UpOverTls, tmp_path: Path) -> None:
    """In Node, which is told of a private CA by its environment; in browsers the machine's trust store counts."""
    for file in ("pushway.js", "package.json"):
        (tmp_path / file).write_bytes((JS / file).read_bytes())
    (tmp_path / "try.mjs").write_text(_JS, encoding="utf-8")
    token = up.run("token", "carol").stdout.strip()
    command = [str(NODE), str(tmp_path / "try.mjs"), up.report["edges"][0], token]
    env = os.environ | {"NODE_EXTRA_CA_CERTS": str(up.authority.file)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as client:
        try:
            assert client.stderr is not None
            assert client.stdout is not None
            told = ""
            while '"type":"open"' not in told:
                line = client.stderr.readline()
                told += line
                assert line, told
            assert up.run("send", "user:carol", '{"n":3}').returncode == 0
            assert json.loads(client.stdout.readline()) == {"n": 3}
        finally:
            client.kill()


def test_up_says_whose_certificate_is_not_trusted(up: UpOverTls, tmp_path: Path) -> None:
    """And starts nothing: without the CA in its settings, the Redis could be anybody's."""
    ports = ("--port-base", str(free_ports(30)), "--data", str(tmp_path / "data"))
    command = [*PUSHWAY, "up", *ports, "--redis", up.redis.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    assert done.returncode == 2
    assert "Redis at " in done.stderr
    assert "is not to be trusted: its certificate is not trusted" in done.stderr
    assert "redis_ca_file" in done.stderr
