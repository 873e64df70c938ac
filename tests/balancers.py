"""HAProxy and nginx with the configurations that are shipped, into which a test's certificate, ports and edges are put."""

from __future__ import annotations

import re
import shutil
import socket
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from tests.certificates import Authority
from tests.servers import Process, free_ports

DEPLOY: Final = Path(__file__).parents[1] / "deploy"
HAPROXY: Final = shutil.which("haproxy")
NGINX: Final = shutil.which("nginx")

CONNECTIONS_MAX: Final = 9_000
"""What a test's balancer is for: files for it can be opened anywhere."""


class Behind(NamedTuple):
    """An edge: the ports of the edge itself and of its /readyz."""

    port: int
    ops_port: int


class Balancer(Process):
    """A balancer in front of edges on this machine, at one port of 127.0.0.1 with TLS.

    Args:
        folder: its own, for all that it writes.
        edges: name → where it is.
        authority: signs its certificate; with none there is no TLS, which would be most of what thousands of clients cost.
    """

    def __init__(self, folder: Path, edges: Mapping[str, Behind], authority: Authority | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(type(self).__name__, folder / "log")
        self.port = free_ports()
        self.folder = folder
        self.edges = edges
        self.pair = authority and authority.issue("127.0.0.1", "localhost", file="balancer")
        self.file = folder / "config"
        self.file.write_text(self._configuration(), encoding="utf-8")

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"{'wss' if self.pair else 'ws'}://127.0.0.1:{self.port}/v1/connect"

    def answers(self) -> bool:
        """Tell whether it accepts connections."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @abstractmethod
    def _configuration(self) -> str:
        """Return the shipped one, with the test's own in the places that say so."""

    @abstractmethod
    def checking(self) -> list[str]:
        """Return the command that has it look through its configuration."""


class HAProxy(Balancer):
    """HAProxy: it speaks the PROXY protocol to edges, and asks for their /readyz."""

    def _configuration(self) -> str:
        both = self.folder / "push.pem"
        if self.pair:
            both.write_bytes(self.pair.cert.read_bytes() + self.pair.key.read_bytes())
        servers = (f"    server {name} 127.0.0.1:{edge.port} port {edge.ops_port}" for name, edge in self.edges.items())
        return _put_in(
            (DEPLOY / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8"),
            (r"log /dev/log local0", ["log stdout format raw local0"]),
            (r"    maxconn 100000", [f"    maxconn {CONNECTIONS_MAX}"]),
            (
                r"bind :443 ssl crt .*",
                [f"bind 127.0.0.1:{self.port}" + (f" ssl crt {both} alpn http/1.1" if self.pair else "")],
            ),
            (r"(?m)(?:^    server .*\n?)+", (f"{server}\n" for server in servers)),
        )

    def command(self) -> list[str]:
        """Return the command line."""
        return [str(HAPROXY), "-db", "-f", str(self.file)]

    def checking(self) -> list[str]:
        """Return the command that has it look through its configuration."""
        return [str(HAPROXY), "-c", "-f", str(self.file)]

    def states(self, name: str) -> list[str]:
        """Return UP or DOWN for each time that it found an edge to be so, since it was started."""
        return re.findall(rf"^Server edges/{re.escape(name)} is (UP|DOWN)", self.log.read_text(encoding="utf-8"), re.MULTILINE)


class ComposedHAProxy(HAProxy):
    """HAProxy of deploy/compose: it tells edges in X-Forwarded-For, and speaks no TLS. Edges here stand for containers."""

    def __init__(self, folder: Path, edges: Mapping[str, Behind], authority: Authority | None) -> None:
        del authority
        super().__init__(folder, edges, None)

    def _configuration(self) -> str:
        whole = (DEPLOY / "haproxy" / "compose.cfg").read_text(encoding="utf-8")
        servers = (f"    server {name} 127.0.0.1:{edge.port} port {edge.ops_port}\n" for name, edge in self.edges.items())
        return _put_in(
            whole.partition("frontend api")[0],
            (r"    maxconn \d+", [f"    maxconn {CONNECTIONS_MAX}\n    log stdout format raw local0"]),
            (r"(?m)^resolvers docker\n(?:    .*\n)+", ()),
            (r"    mode http", ["    mode http\n    log global"]),
            (r" resolvers docker init-addr none", ()),
            (r"bind :8080", [f"bind 127.0.0.1:{self.port}"]),
            (r"    server-template edge- 10 edge:8002\n", servers),
        )


class Nginx(Balancer):
    """nginx: it tells edges in X-Forwarded-For whose connection it is."""

    def _configuration(self) -> str:
        assert self.pair, "it is run with TLS only"
        servers = (f"        server 127.0.0.1:{edge.port} max_fails=1 fail_timeout=2s;\n" for edge in self.edges.values())
        own = "\n".join(
            f"    {name}_temp_path {self.folder / name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return _put_in(
            (DEPLOY / "nginx" / "nginx.conf").read_text(encoding="utf-8"),
            (r"worker_processes auto;", ["daemon off;\nmaster_process off;"]),
            (r"worker_rlimit_nofile \d+;", [f"worker_rlimit_nofile {2 * CONNECTIONS_MAX + 1_000};"]),
            (r"error_log \S+;", ["error_log stderr;"]),
            (r"pid \S+;", [f"pid {self.folder / 'pid'};"]),
            (r"worker_connections \d+;", [f"worker_connections {2 * CONNECTIONS_MAX};"]),
            (r"access_log \S+ plain;", [f"access_log {self.folder / 'access.log'} plain;\n{own}"]),
            (r"listen 443 ssl;", [f"listen 127.0.0.1:{self.port} ssl;"]),
            (r"/etc/nginx/push\.pem", [str(self.pair.cert)]),
            (r"/etc/nginx/push\.key", [str(self.pair.key)]),
            (r"(?m)(?:^        server [\d.:]+ .*\n)+", servers),
        )

    def command(self) -> list[str]:
        """Return the command line."""
        return [str(NGINX), "-e", "stderr", "-p", str(self.folder), "-c", str(self.file)]

    def checking(self) -> list[str]:
        """Return the command that has it look through its configuration."""
        return [*self.command(), "-t"]


def _put_in(text: str, *changes: tuple[str, Iterable[str]]) -> str:
    """Return a configuration with each pattern, which stands in it once, replaced by what is the test's."""
    for pattern, own in changes:
        lines = "".join(own)
        text, count = re.subn(pattern, lambda _match, lines=lines: lines, text)  # type: ignore[misc]
        assert count == 1, (pattern, count)
    return text
