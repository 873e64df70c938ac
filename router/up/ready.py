"""Whether a server or service can be used now: asked, never assumed after a while."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import anyio
import httpx
from pymongo import AsyncMongoClient

from router.errors import SetupError
from router.mongo_client import STORE_OUTAGE, Document, cancelled_once, open_mongo
from router.redis_client import OUTAGE, open_redis
from router.settings import Settings
from router.tls.trust import why_untrusted
from router.up.embedded import HOST
from router.up.plan import PORT_BASE_MAX, Port

_ASK_TIMEOUT_S: Final = 2.0
_POLL_S: Final = 0.05
_PORT_STEP: Final = 100


class Asking:
    """Asks whether what stands behind a URL is ready: `http:` answers with 200, `redis:` and `mongodb:` answer a ping.

    Args:
        url: what is asked.
        settings: whom to trust.

    Attributes:
        untrusted: what is wrong with the certificate that it showed last; "" where nothing is.
    """

    def __init__(self, url: str, settings: Settings) -> None:
        self._url = url
        asked: dict[str, object] = {"redis_timeout_s": _ASK_TIMEOUT_S, "mongo_timeout_s": _ASK_TIMEOUT_S}
        kind = url.partition(":")[0].partition("+")[0]
        self._ask = {"http": self._http_answers, "mongodb": self._mongo_answers}.get(kind, self._redis_answers)
        if kind != "http":
            asked["mongo_url" if kind == "mongodb" else "redis_url"] = url
        self._settings = settings.model_copy(update=asked)
        self.untrusted = ""

    async def until_ready(self) -> None:
        """Return when it is ready. It is for the caller to give up."""
        while not await self._ask():  # noqa: ASYNC110 - it is another process: there is no event to wait for
            await anyio.sleep(_POLL_S)

    async def _http_answers(self) -> bool:
        async with httpx.AsyncClient(timeout=_ASK_TIMEOUT_S, trust_env=False) as client:
            try:
                return (await client.get(self._url)).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

    async def _redis_answers(self) -> bool:
        async with open_redis(self._settings) as client:
            try:
                return bool(await client.ping())
            except OUTAGE as exc:
                self.untrusted = why_untrusted(exc, "redis_ca_file") or ""
                return False

    async def _mongo_answers(self) -> bool:
        async with open_mongo(self._settings) as client:
            try:
                return await _ping(client)
            except STORE_OUTAGE as exc:
                self.untrusted = why_untrusted(exc, "mongo_ca_file") or ""
                return False


@cancelled_once
async def _ping(client: AsyncMongoClient[Document]) -> bool:
    return bool(await client.admin.command("ping"))


def check_ports(ports: Sequence[Port]) -> None:
    """Refuse to start where something listens already.

    Raises:
        SetupError: naming every port that is taken, what each is for, and flags with which all of them are free.
    """
    taken = [port for port in ports if not _is_free(port.number)]
    if taken:
        what = ", ".join(f"{port.number} ({port.use})" for port in taken)
        flags = " ".join(free_flags(ports, [port.flag for port in taken], _is_free))
        raise SetupError(f"{'ports' if taken[1:] else 'port'} {what} {'are' if taken[1:] else 'is'} taken; pass {flags}")


def free_flags(ports: Sequence[Port], flags: Iterable[str], is_free: Callable[[int], bool]) -> list[str]:
    """Return `--flag value` for each of the flags, so that every port that it moves comes to a free one.

    Args:
        ports: all that are wanted; a flag's value is the lowest of its own, and moves the others along.
        flags: those to choose anew; the same one may come several times.
        is_free: tells whether a port can be had.
    """
    chosen = list(dict.fromkeys(flags))
    reserved = {port.number for port in ports}
    answer = []
    for flag in chosen:
        numbers = [port.number for port in ports if port.flag == flag]
        moved = next(filter(lambda new: all(n not in reserved and is_free(n) for n in new), _moved(numbers)), None)
        reserved.update(moved or ())
        answer.append(f"{flag} {min(moved)}" if moved else flag)
    return answer


def _moved(numbers: Sequence[int]) -> Iterator[list[int]]:
    """Yield where ports could go together: upwards in round steps, as a person would try."""
    for step in range(_PORT_STEP, PORT_BASE_MAX - max(numbers), _PORT_STEP):
        yield [number + step for number in numbers]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the servers themselves do, so that connections of a moment ago (TIME_WAIT) do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
