"""Living through an outage: wait longer and longer, say so once, and say when it is over."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import structlog

from router.metrics import OUTAGES
from router.mongo_client import brief
from router.ops import Health
from router.redaction import Redaction, secrets_of
from router.retry import Backoff
from router.settings import Settings

log = structlog.get_logger(__name__)


class Outages:
    """The state of the servers that a worker depends on, as its own calls find them.

    Args:
        health: gets a condition a server: false while it is out.
        settings: the pauses between tries.
        where: what the log lines are to name, such as the shard.
    """

    def __init__(self, health: Health, settings: Settings, **where: object) -> None:
        self._health = health
        self._settings = settings
        self._where = where
        self._redaction = Redaction(secrets_of(settings))
        self._backoff = Backoff(settings.backoff_min_ms, settings.backoff_max_ms)
        self._out: set[str] = set()
        self._log = log.bind(**where)

    def apart(self, **where: object) -> Outages:
        """Return one for a part of the work that goes on while other parts wait; `where` says in log lines which."""
        return Outages(self._health, self._settings, **self._where, **where)

    async def wait(self, server: str, error: Exception) -> None:
        """Pause before the next try, after `server` (`redis` or `mongo`) failed with `error`."""
        if server not in self._out:
            self._out.add(server)
            OUTAGES.labels(server=server).inc()
            # It is shown on /readyz, and MongoDB's errors quote the documents that they are about.
            self._health.set(server, ok=False, why=self._redaction.text(f"{type(error).__name__}: {brief(error)}"))
            self._log.warning("outage_began", server=server, error=brief(error), kind=type(error).__name__)
        await anyio.sleep(self._backoff.next_s())

    def forget(self) -> None:
        """Note that there will be no further try: nothing is out as far as this one knows, and it will not see the end."""
        for server in sorted(self._out):
            self._end(server)
            self._log.info("outage_left", server=server)
        self._out.clear()

    def over(self) -> None:
        """Note that a whole try went well."""
        self._backoff.reset()
        for server in sorted(self._out):
            self._end(server)
            self._log.info("outage_ended", server=server)
        self._out.clear()

    def _end(self, server: str) -> None:
        self._health.set(server, ok=True)
        OUTAGES.labels(server=server).dec()


def outages_of(groups: Sequence[range], outages: Outages) -> list[tuple[range, Outages]]:
    """Return each group of shards with outages of its own, which name its shard where there are several."""
    if len(groups) == 1:
        return [(groups[0], outages)]
    return [(shards, outages.apart(shard=shards.start)) for shards in groups]
