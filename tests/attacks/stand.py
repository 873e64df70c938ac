"""Where attacks take place: all of Pushway with one edge, five hundred honest clients, and what both have to show for it.

The honest come from addresses of their own, two clients each, so that what is held against an attacker's address is not held
against theirs; `GUARD` holds every address to far more than that. What no address is held to, it has by default.
"""

from __future__ import annotations

import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import anyio
import httpx
import jwt
import msgspec
from anyio.from_thread import start_blocking_portal
from redis.asyncio import BlockingConnectionPool, Redis

from router.auth.keyfile import load_or_make
from router.auth.tokens import Claims, TokenRules, issue
from router.keys import Keys
from router.timed_redis import TimedRedis
from tests.attacks.doors import Doors
from tests.attacks.figures import Memory, Served, begin_peak, counters, peak_mib, resident_mib, rises
from tests.attacks.honest import Ready, Wanted
from tests.attacks.lures import Lures
from tests.attacks.target import MANY, ONE, Attack, Target
from tests.integration.hostile.test_tokens import forgeries
from tests.issuers import forge_hmac, pem
from tests.stack import API_KEY, Stack

HONEST: Final = 500

HOST: Final = "127.0.0.1"
EDGE: Final = "edge-1"

GUARD: Final[Mapping[str, Any]] = {"connections_address_max": 100, "handshakes_address_s_max": 50}
"""What an edge that the open internet reaches without a balancer would have set."""

_CLIENTS_AN_ADDRESS: Final = 2
_CONNECTIONS: Final = 100
_ATTACKERS: Final = 2_000
_TOKEN_TTL_S: Final = 3_600
_SETTLED_S: Final = 0.5
_PREPARED_S: Final = 2.0
"""How long the store may take to have on its disk what an attack needs there; the honest wait for that, attacked or not."""

_SHOWN_S: Final = 20.0

_ROOT: Final = Path(__file__).resolve().parents[2]

T = TypeVar("T")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one attack.

    Attributes:
        attack: its name.
        sources: from how many addresses it came.
        seconds: how long it was.
        quiet: how the honest were served just before it.
        served: how they were served meanwhile.
        memory: of the edge; after is a while after the attack's end.
        cpu: of the edge, as a share of a core, meanwhile.
        rose: which metrics of the edge rose, by how much.
        seen: what the attacker saw: connects, and how they ended.
        log_lines: written by the edge.
    """

    attack: str
    sources: int
    seconds: float
    quiet: Served
    served: Served
    memory: Memory
    cpu: float
    rose: dict[str, float]
    seen: dict[str, int]
    log_lines: int

    @property
    def ratio(self) -> float:
        """By how much the honest clients' p99 was longer than before the attack."""
        return self.served.p99_ms / max(self.quiet.p99_ms, 1e-3)

    @property
    def codes(self) -> dict[str, int]:
        """How many sessions the edge closed, by code."""
        name = 'pushway_closes_total{code="'
        return {key.removeprefix(name)[:-2]: int(rise) for key, rise in self.rose.items() if key.startswith(name)}


class Stand:
    """The running system and its honest clients.

    Args:
        folder: for all data and logs.
        honest: how many clients.
        settings: settings that shall be neither what `GUARD` says nor the default.
        callback: the edge asks a service of the attacker's who the bearer of a token is.
    """

    def __init__(
        self, folder: Path, *, honest: int = HONEST, settings: Mapping[str, Any] | None = None, callback: bool = False
    ) -> None:
        self._closing = ExitStack()
        self._lures = Lures()
        portal = self._closing.enter_context(start_blocking_portal())
        self._closing.enter_context(portal.wrap_async_context_manager(self._lures.run()))
        way = {"auth_by": "http", "auth_callback_url": self._lures.service_url} if callback else {}
        self.stack = Stack(folder, edges=1, settings={**GUARD, **way, **(settings or {})})
        self._honest = [f"honest-{number}" for number in range(honest)]
        self._clients: subprocess.Popen[str]
        self._attackers: list[str] = []

    @property
    def edge_pid(self) -> int:
        """The process under attack."""
        return self.stack[EDGE].pid

    @asynccontextmanager
    async def target(self, sources: Sequence[str] = ONE, scale: float = 1.0) -> AsyncIterator[Target]:
        """Yield the edge as an attack's target."""
        port = int(self.stack.edge_urls[0].rpartition(":")[2].partition("/")[0])
        # Floods of entries wait for one of these; more at once are more than Redis sees of any producer.
        pool = BlockingConnectionPool.from_url(
            self.stack.settings.redis_url, max_connections=_CONNECTIONS, timeout=None, protocol=2
        )
        async with TimedRedis.from_pool(pool) as redis:
            yield Target(HOST, port, self._attackers, self._doors(redis), sources, scale)

    def _doors(self, redis: Redis) -> Doors:
        settings = self.stack.settings
        keys = Keys(settings.prefix, 0)

        async def append(fields: Mapping[str, str]) -> None:
            await redis.xadd(keys.intake(), dict(fields.items()))

        async def append_fast(fields: Mapping[str, str]) -> None:
            await redis.xadd(keys.fast(), dict(fields.items()))

        async def dead() -> int:
            newest = await redis.xrevrange(keys.dead(), count=1)
            return int((await redis.xinfo_stream(keys.dead()))["entries-added"]) if newest else 0

        return Doors(
            append=append,
            append_fast=append_fast,
            dead=dead,
            api_port=settings.api_port,
            api_key=API_KEY,
            sign=self._sign,
            forgeries=(*forgeries(settings, self._lures.trap_url), *self._worthless()),
            trap_url=self._lures.trap_url,
        )

    def _sign(self, user: str, **claims: object) -> str:
        settings = self.stack.settings
        key, now = load_or_make(settings.auth_key_file), int(time.time())
        usual = {"iss": settings.token_issuer, "aud": settings.token_audience, "sub": user, "jti": user, "topics": ["*"]}
        said = usual | {"iat": now, "exp": now + _TOKEN_TTL_S} | claims
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(kept, key.private, algorithm="EdDSA", headers={"kid": key.kid})

    def _worthless(self) -> Iterator[str]:
        """Yield tokens that are signed well and hold for somebody else, or not now; and one whose secret is the public key."""
        now = int(time.time())
        other: dict[str, tuple[object, ...]] = {
            "exp": (now - 3_600, None),
            "nbf": (now + 3_600,),
            "iat": (now + 3_600,),
            "jti": (None,),
            "aud": ("other", None),
            "iss": ("https://other.example", None),
        }
        for name, values in other.items():
            yield from (self._sign("mallory", **{name: value}) for value in values)
        settings = self.stack.settings
        key = load_or_make(settings.auth_key_file)
        said = {"iss": settings.token_issuer, "aud": settings.token_audience, "sub": "m", "jti": "j", "exp": now + 600}
        raw = key.private.public_key().public_bytes_raw()
        for secret in (raw, pem(key.private), urlsafe_b64encode(raw)):
            yield forge_hmac({"alg": "HS256", "kid": key.kid}, said, secret)

    async def quiet(self, seconds: float, attack: Attack | None = None, targets: Sequence[Target] = ()) -> Served:
        """Return how the honest are served while nobody attacks, with all there that the attack needs."""
        if attack is not None and attack.prepare is not None:
            for target in targets:
                await attack.prepare(target)
            await anyio.sleep(_PREPARED_S)
        await anyio.to_thread.run_sync(self._window)
        await anyio.sleep(seconds)
        return await anyio.to_thread.run_sync(self._window)

    async def undergo(self, attack: Attack, targets: Sequence[Target], seconds: float, quiet: Served) -> Outcome:
        """Be attacked for so long, on each of the targets at once, and say what came of it.

        It takes longer on a machine so busy that the attack has not shown by then.
        """
        await anyio.to_thread.run_sync(self._window)
        metrics, lines, visits = await self._metrics(), self._log_lines(), self._lures.visits
        before_mib, cpu_s, began_s = resident_mib(self.edge_pid), self._cpu_s(), time.monotonic()
        begin_peak(self.edge_pid)
        until = anyio.Event()
        async with anyio.create_task_group() as tasks:
            for target in targets:
                tasks.start_soon(attack.run, target, until)
            await anyio.sleep(max(seconds, attack.seconds_min))
            await self._shown(attack, metrics)
            until.set()
        took_s = time.monotonic() - began_s
        cpu = (self._cpu_s() - cpu_s) / took_s
        served = await anyio.to_thread.run_sync(self._window)
        await self._settle(metrics)
        if self._lures.visits > visits:
            targets[0].got_in("whom the attacker named was asked")
        memory = Memory(before_mib=before_mib, peak_mib=peak_mib(self.edge_pid), after_mib=resident_mib(self.edge_pid))
        return Outcome(
            attack=attack.name,
            sources=len({source for target in targets for source in target.sources}),
            seconds=took_s,
            quiet=quiet,
            served=served,
            memory=memory,
            cpu=cpu,
            rose=rises(metrics, await self._metrics()),
            seen=dict(sum((target.seen for target in targets), Counter())),
            log_lines=self._log_lines() - lines,
        )

    async def _shown(self, attack: Attack, before: dict[str, float]) -> None:
        """Return when a metric shows that there is an attack, or none does in good time."""
        with anyio.move_on_after(_SHOWN_S):
            while not _is_counted(attack, rises(before, await self._metrics())):  # noqa: ASYNC110 - in another process
                await anyio.sleep(_SETTLED_S)

    async def _settle(self, before: Mapping[str, float]) -> None:
        """Return when what the attack has left open is gone from the edge, or is not going."""
        open_before = before["pushway_connections"]
        settings = self.stack.settings
        with anyio.move_on_after(settings.connect_timeout_s + settings.close_timeout_s + 1):
            while (await self._metrics())["pushway_connections"] > open_before:  # noqa: ASYNC110 - in another process
                await anyio.sleep(_SETTLED_S)

    async def _metrics(self) -> dict[str, float]:
        async with httpx.AsyncClient(trust_env=False, timeout=10) as http:
            return counters((await http.get(f"{self.stack[EDGE].ops_url}/metrics")).text)

    def _cpu_s(self) -> float:
        """Return the seconds on a core that the edge has had: fields 14 and 15 of proc_pid_stat(5), in hundredths."""
        words = Path(f"/proc/{self.edge_pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        return (int(words[11]) + int(words[12])) / 100

    def _log_lines(self) -> int:
        return self.stack[EDGE].log.read_bytes().count(b"\n")

    def _window(self) -> Served:
        """End the honest clients' window, and return how they were served in it."""
        return self._ask("window", Served)

    def _ask(self, line: str, answer: type[T]) -> T:
        assert self._clients.stdin is not None
        assert self._clients.stdout is not None
        self._clients.stdin.write(line + "\n")
        self._clients.stdin.flush()
        said = self._clients.stdout.readline()
        assert said, "the honest clients' process has ended"
        return msgspec.json.decode(said, type=answer)

    def _tokens(self, users: Sequence[str]) -> list[str]:
        """Return tokens made with auth's own key."""
        settings = self.stack.settings
        key = load_or_make(settings.auth_key_file)
        rules = TokenRules(settings.token_issuer, settings.token_audience, 0)
        now = int(time.time())
        claims = (Claims(user, now + _TOKEN_TTL_S, ("*",), user) for user in users)
        return [issue(each, key.private, key.kid, rules, now) for each in claims]

    def _wanted(self) -> Wanted:
        addresses = -(-len(self._honest) // _CLIENTS_AN_ADDRESS)
        settings = self.stack.settings
        return Wanted(
            url=self.stack.edge_urls[0],
            redis_url=settings.redis_url,
            stream=Keys(settings.prefix, 0).intake(),
            tokens=dict(zip(self._honest, self._tokens(self._honest), strict=True)),
            addresses=tuple(f"127.0.1.{host}" for host in range(1, min(250, addresses) + 1)),
        )

    def __enter__(self) -> Self:
        self.stack.__enter__()
        self._attackers = self._tokens([f"attacker-{number}" for number in range(_ATTACKERS)])
        words = [sys.executable, "-m", "tests.attacks.honest"]
        self._clients = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT)
        try:
            self._ask(msgspec.json.encode(self._wanted()).decode(), Ready)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        for pipe in (self._clients.stdin, self._clients.stdout):
            if pipe is not None:
                pipe.close()
        self._clients.kill()
        self._clients.wait()
        self.stack.__exit__(kind, exc, trace)
        self._closing.close()


SPREADS: Final[Mapping[str, Sequence[str]]] = {"one": ONE, "many": MANY}
"""From one address, or from a thousand."""


def _is_counted(attack: Attack, rose: Mapping[str, float]) -> bool:
    return any(name.startswith(attack.counted) for name in rose)
