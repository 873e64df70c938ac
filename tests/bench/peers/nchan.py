"""Nchan in nginx, as Debian has both, with Redis behind it: a channel a user, published to by HTTP.

One worker process, as the others have one process. A request waits for the answer to the one before it on its connection, so
the producer has many.
"""

from __future__ import annotations

from typing import ClassVar, Final

import httpx

from tests.bench.dialect import Dialect
from tests.bench.peers.packages import debian, program
from tests.bench.peers.peer import Peer

_CONFIG = """
load_module {files}/usr/lib/nginx/modules/ngx_nchan_module.so;
user root;
daemon off;
pid nginx.pid;
worker_processes 1;
worker_rlimit_nofile 40000;
error_log error.log warn;
events {{ worker_connections 40000; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    nchan_shared_memory_size 512M;
    upstream redis {{ nchan_redis_server {redis}; nchan_redis_storage_mode {storage}; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/pub/(.+)$ {{
            nchan_publisher http; nchan_channel_id $1; nchan_redis_pass redis; nchan_message_buffer_length {kept};
        }}
        location ~ ^/sub/(.+)$ {{
            nchan_subscriber websocket; nchan_channel_id $1 all; nchan_redis_pass redis; nchan_subscriber_first_message newest;
        }}
    }}
}}
"""

_OWN_VAR_LIB: Final = 'mount -t tmpfs none /var/lib && mkdir /var/lib/nginx && exec "$@"'
"""Debian's nginx makes folders in /var/lib/nginx whatever it is told: it gets a /var/lib of its own."""


class Nchan(Peer):
    """Redis carries messages and keeps none."""

    name = "nchan"
    title = "Nchan, Redis without storage"
    dialect = Dialect(path="/sub/{token}", protocol="http", lines=32)
    storage: ClassVar[str] = "nostore"
    kept: ClassVar[int] = 1

    def command(self) -> list[str]:
        """Return the command line."""
        files = debian("nchan", "nginx", "libnginx-mod-nchan")
        assert self.redis is not None
        config = self.folder / "nginx.conf"
        places = {"files": files, "redis": self.redis.url, "port": self.port}
        config.write_text(_CONFIG.format(storage=self.storage, kept=self.kept, **places), encoding="utf-8")
        nginx = [str(files / "usr/sbin/nginx"), "-p", str(self.folder), "-c", str(config), "-e", "error.log"]
        return [program("unshare"), "--map-root-user", "--mount", "sh", "-c", _OWN_VAR_LIB, "sh", *nginx]

    def answers(self) -> bool:
        """Tell whether it takes messages: it refuses them as long as it is not connected to Redis."""
        try:
            return httpx.post(f"http://{self.publish}/pub/ready", content=b"{}", timeout=1.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    @property
    def publish(self) -> str:
        """Where a producer posts."""
        return f"127.0.0.1:{self.port}"

    def publication(self, body: str, room: str) -> bytes:
        """Return a POST."""
        return (
            f"POST /pub/{room or 'all'} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


class NchanStored(Nchan):
    """Redis keeps the last messages of each channel, for those who come back."""

    name = "nchan_stored"
    title = "Nchan, Redis with storage"
    storage = "distributed"
    kept = 100
