"""One chaos run from beginning to end: stand, crowd, faults, quiet, verdict."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import anyio

from tests.chaos.checker import Verdict, check
from tests.chaos.crowd import Crowd, CrowdSize, Links
from tests.chaos.faults import FAILOVER, SLOW_DISKS, disks_can_be_slowed
from tests.chaos.history import Accepted, FaultBegan, FaultEnded, History
from tests.chaos.load import Load
from tests.chaos.report import as_json
from tests.chaos.schedule import Planned, make_schedule
from tests.chaos.stand import Death, Stand, standing
from tests.servers import DebianRedis

DEVICES_A_USER: Final = 3
SETTLE_TIMEOUT_S: Final = 90.0

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - only where to make a folder of our own
_MEMORY_MIN_BYTES: Final = 2 * 1024**3

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What run is asked for.

    Attributes:
        seed: of the schedule and of the crowd.
        minutes: how long faults strike.
        kinds: which, as in `faults.KINDS`.
        clients: how many devices.
        rate_per_s: messages appended a second.
    """

    seed: int
    minutes: float
    kinds: tuple[str, ...]
    clients: int = 200
    rate_per_s: float = 200.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a run.

    Attributes:
        wishes: what was asked for, less what this machine cannot do.
        left_out: kinds that were asked for and that this machine cannot do, each with the reason.
        schedule: what was planned.
        history: everything that was seen.
        accepted: the inbox at the end.
        verdict: what the checker says.
        deaths: processes that ended by themselves.
        stubborn: processes that did not end within `tests.servers.STOP_TIMEOUT_S` of SIGTERM, and were killed.
        not_ready: processes that did not get ready when all was over.
        load: how hard the controller worked.
    """

    wishes: Wishes
    left_out: tuple[str, ...]
    schedule: tuple[Planned, ...]
    history: History
    accepted: Sequence[Accepted]
    verdict: Verdict
    deaths: tuple[Death, ...]
    stubborn: tuple[Death, ...]
    not_ready: tuple[str, ...]
    load: Load

    @property
    def green(self) -> bool:
        """Whether nothing was lost, doubled or reordered, and every process lived as long as it was let."""
        return self.verdict.green and not self.deaths and not self.not_ready


def possible(kinds: Sequence[str], folder: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the kinds that can be had on this machine, and the others, each with the reason."""
    reasons: dict[str, str] = {}
    if SLOW_DISKS & set(kinds) and not disks_can_be_slowed(folder):
        reasons |= dict.fromkeys(SLOW_DISKS, "strace is not installed or may not attach")
    if not DebianRedis.available():
        reasons[FAILOVER] = "redis-server is not installed"
    left_out = tuple(f"{kind}: {reasons[kind]}" for kind in kinds if kind in reasons)
    return tuple(kind for kind in kinds if kind not in reasons), left_out


def data_home() -> Path | None:
    """Return where a run's data is best kept: in memory, if there is room; None for wherever temporary files go.

    A disk that others keep busy makes every flush wait for seconds, which is a fault that nobody has planned. Nothing is given
    away: what a process has written outlives its `kill -9` in memory as well, and slow flushes are among the faults.
    """
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_MIN_BYTES
    return _MEMORY if roomy else None


async def run(wishes: Wishes, folder: Path, say: Say) -> Outcome:
    """Return what came of a run; ends everything it starts.

    Args:
        wishes: what is asked for.
        folder: for data and logs; it exists.
        say: takes lines of progress.

    Raises:
        RuntimeError: when a process does not start, or TimeoutError when the crowd does not get in: before any fault.
        ValueError: when this machine can do none of the kinds.
    """
    kinds, left_out = await anyio.to_thread.run_sync(possible, wishes.kinds, folder)
    if not kinds:
        raise ValueError(f"none of these faults can be had here: {'; '.join(left_out)}")
    wishes = Wishes(wishes.seed, wishes.minutes, kinds, wishes.clients, wishes.rate_per_s)
    schedule = make_schedule(wishes.seed, wishes.minutes, kinds)
    for line in left_out:
        say(f"left out: {line}")
    history, load = History(), Load()
    say("the system starts")
    async with standing(Stand(folder, failover=FAILOVER in kinds, say=say)) as stand:
        say(f"{wishes.clients} clients connect")
        links = Links(stand.edge_urls, stand.redis_url, stand.token)
        size = CrowdSize(
            users=max(1, wishes.clients // DEVICES_A_USER), devices_a_user=DEVICES_A_USER, rate_per_s=wishes.rate_per_s
        )
        async with Crowd(links, size, history, wishes.seed) as crowd, anyio.create_task_group() as tasks:
            tasks.start_soon(load.watch)
            await strike_all(schedule, stand, history, say)
            say("no more faults: waiting until everything is ready and everybody has caught up")
            not_ready = await stand.all_ready()
            await crowd.settle(stand.accepted, timeout_s=SETTLE_TIMEOUT_S)
            accepted = await stand.all_accepted()
            tasks.cancel_scope.cancel()
        deaths, stubborn = tuple(stand.deaths), tuple(stand.stubborn)
    say("checking")
    verdict = await anyio.to_thread.run_sync(check, history, accepted)
    return Outcome(wishes, left_out, schedule, history, accepted, verdict, deaths, stubborn, not_ready, load)


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as values that json.dumps takes: the verdict, and how the run was and went."""
    wishes, load = outcome.wishes, outcome.load
    return as_json(outcome.verdict) | {
        "green": outcome.green,
        "seed": wishes.seed,
        "minutes": wishes.minutes,
        "kinds": list(wishes.kinds),
        "left_out": list(outcome.left_out),
        "clients": wishes.clients,
        "rate_per_s": wishes.rate_per_s,
        "schedule": [str(planned) for planned in outcome.schedule],
        "deaths": [asdict(death) for death in outcome.deaths],
        "stubborn": [asdict(death) for death in outcome.stubborn],
        "not_ready": list(outcome.not_ready),
        "controller": {"busy": load.busy, "lag_p99_s": load.lag_p99_s, "lag_max_s": load.lag_max_s},
    }


async def strike_all(schedule: Sequence[Planned], stand: Stand, history: History, say: Say) -> None:
    """Do everything that is planned, each when it is due; return when the last is over."""
    began_s = anyio.current_time()
    locks = {planned.fault.victim: anyio.Lock() for planned in schedule}
    async with anyio.create_task_group() as tasks:
        for planned in schedule:
            await anyio.sleep_until(began_s + planned.at_s)
            tasks.start_soon(_strike, planned, locks[planned.fault.victim], stand, history, say)


async def _strike(planned: Planned, lock: anyio.Lock, stand: Stand, history: History, say: Say) -> None:
    # The lock: a victim that takes long to be well again is not struck a second time before it is.
    fault = planned.fault
    async with lock:
        say(str(planned))
        history.note(FaultBegan(history.now(), planned.name, planned.kind, fault.victim, fault.detail))
        async with fault.strike(stand):
            await anyio.sleep(fault.for_s)
        history.note(FaultEnded(history.now(), planned.name))
