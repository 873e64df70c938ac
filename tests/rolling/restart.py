"""The scene: all of Pushway, HAProxy as it is shipped, a crowd; then one edge after another ends calmly and starts again."""

from __future__ import annotations

import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from router.auth.keyfile import load_or_make
from router.auth.tokens import Claims, TokenRules, issue
from router.keys import Keys
from tests.balancers import Behind, HAProxy
from tests.rolling.crowd import Heard, Ready, Return, Wanted
from tests.servers import wait_until
from tests.stack import Stack

CONNECTIONS: Final = 2_000
EDGES: Final = 3

_TOKEN_TTL_S: Final = 3_600
_QUIET_S: Final = 2.0
"""How long traffic goes on before the first edge is told to end, and after the last has come back."""

_ROOT: Final = Path(__file__).resolve().parents[2]

T = TypeVar("T")


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """One edge's; Unix times.

    Attributes:
        edge: its name.
        told_s: when it was told to end.
        ended_s: when it had.
        back_s: when the balancer had found it ready again.
        returns: the clients that it sent away.
    """

    edge: str
    told_s: float
    ended_s: float
    back_s: float
    returns: list[Return]


class Rolled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it.

    Attributes:
        connections: how many clients there were.
        drain_s: `drain_timeout_s` of the edges.
        rate_per_s: messages appended a second.
        restarts: in their order.
        heard: what the crowd has to say.
    """

    connections: int
    drain_s: float
    rate_per_s: float
    restarts: list[Restart]
    heard: Heard


def roll(
    folder: Path,
    *,
    connections: int = CONNECTIONS,
    edges: int = EDGES,
    drain_s: float = 10.0,
    rate_per_s: float = 500.0,
) -> Rolled:
    """Run it. Blocks; call it from the main thread, since what it starts ends with the thread."""
    settings = {"drain_timeout_s": drain_s, "edge_proxies": ("127.0.0.1",), "edge_proxy_protocol": True}
    with Stack(folder, edges=edges, settings=settings) as stack:
        names = [f"edge-{number}" for number in range(1, edges + 1)]
        balancer = HAProxy(folder / "balancer", {name: _behind(stack, n) for n, name in enumerate(names)}, None).start()
        try:
            with _crowd(_wanted(stack, balancer.url, connections, rate_per_s)) as crowd:
                time.sleep(_QUIET_S)
                times = [_restart(stack, balancer, name) for name in names]
                time.sleep(_QUIET_S)
                heard = _ask(crowd, "over", Heard)
        finally:
            balancer.kill()
    restarts = [_with_returns(restart, heard.returns) for restart in times]
    return Rolled(connections=connections, drain_s=drain_s, rate_per_s=rate_per_s, restarts=restarts, heard=heard)


def per_s(times_s: Sequence[float], begin_s: float, end_s: float, step_s: float) -> list[float]:
    """Return how many times a second something happened, a figure for each step from begin to end."""
    ascending = sorted(times_s)
    steps = [begin_s + number * step_s for number in range(int((end_s - begin_s) / step_s) + 2)]
    places = [bisect_left(ascending, at) for at in steps]
    return [(after - before) / step_s for before, after in pairwise(places)]


def _restart(stack: Stack, balancer: HAProxy, name: str) -> Restart:
    """End an edge as an administrator would, start it again, and wait until the balancer gives it connections."""
    told_s, downs = time.time(), balancer.states(name).count("DOWN")
    assert stack[name].stop() == 0
    ended_s = time.time()
    wait_until(lambda: balancer.states(name).count("DOWN") > downs, f"the balancer has noticed that {name} is gone")
    stack[name].start()
    wait_until(lambda: balancer.states(name)[-1] == "UP", f"{name} is back")
    return Restart(edge=name, told_s=told_s, ended_s=ended_s, back_s=time.time(), returns=[])


def _with_returns(restart: Restart, returns: Sequence[Return]) -> Restart:
    own = [found for found in returns if restart.told_s <= found.left_s < restart.back_s]
    return msgspec.structs.replace(restart, returns=own)


def _behind(stack: Stack, number: int) -> Behind:
    ops = stack[f"edge-{number + 1}"].ops_url
    return Behind(
        *(int(url.partition("://")[2].partition("/")[0].rpartition(":")[2]) for url in (stack.edge_urls[number], ops))
    )


def _wanted(stack: Stack, url: str, connections: int, rate_per_s: float) -> Wanted:
    settings = stack.settings
    key, now_s = load_or_make(settings.auth_key_file), int(time.time())
    rules = TokenRules(settings.token_issuer, settings.token_audience, 0)
    tokens = {
        user: issue(Claims(user=user, expires_at=now_s + _TOKEN_TTL_S, topics=(), jti=user), key.private, key.kid, rules, now_s)
        for user in (f"u{number}" for number in range(connections))
    }
    stream = Keys(settings.prefix, 0).intake()
    return Wanted(url=url, redis_url=settings.redis_url, stream=stream, tokens=tokens, rate_per_s=rate_per_s)


@contextmanager
def _crowd(wanted: Wanted) -> Iterator[subprocess.Popen[str]]:
    """Yield the crowd, once all are there; it ends with the block."""
    words = [sys.executable, "-m", "tests.rolling.crowd"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as crowd:
        try:
            _ask(crowd, msgspec.json.encode(wanted).decode(), Ready)
            yield crowd
        finally:
            crowd.kill()


def _ask(crowd: subprocess.Popen[str], line: str, kind: type[T]) -> T:
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    crowd.stdin.write(line + "\n")
    crowd.stdin.flush()
    return msgspec.json.decode(crowd.stdout.readline(), type=kind)
