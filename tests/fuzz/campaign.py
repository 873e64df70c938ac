"""A campaign: one target after the other in a process of its own, guided where atheris is installed, and what came of each.

Inputs that were found stay in a folder from campaign to campaign; what of them is worth keeping in the repository is chosen by
libFuzzer, which leaves out whatever reaches nothing new.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.mutation import mutants
from tests.fuzz.targets import load, silence

ROOT: Final = Path(__file__).resolve().parents[2]
WORK: Final = ROOT / ".pushway-fuzz"
"""Inputs found and what was said, from campaign to campaign."""

_WORDS: Final = Path(__file__).with_name("words.dict")

_INPUT_S: Final = 20
"""An input that takes longer has broken something: on a machine that is busy, a good one takes some milliseconds."""

_MEMORY_MB: Final = 1_024
_GRACE_S: Final = 60
_MERGE_S: Final = 600
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units: (\d+)")
_REACHED: Final = re.compile(r"cov: (\d+)")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a target.

    Attributes:
        executions: inputs that were run.
        cpu_s: CPU seconds of its process.
        reached: branches reached, as atheris counts them; 0 without guidance.
        crash: the input that broke something; None when none did.
        said: what it said at the end.
        ended_at: Unix seconds.
    """

    target: str
    executions: int
    cpu_s: float
    reached: int
    crash: bytes | None
    said: str
    ended_at: float


def is_guided() -> bool:
    """Tell whether atheris is installed."""
    return find_spec("atheris") is not None


def run(name: str, seconds: int) -> Outcome:
    """Fuzz a target for so long, or until an input breaks something."""
    outcome = _run_guided(name, seconds) if is_guided() else _run_unguided(name, seconds)
    with (WORK / "campaigns.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(outcome) | {"crash": outcome.crash and corpus.line_of(outcome.crash)}) + "\n")
    return outcome


def keep(name: str) -> int:
    """Keep in the repository what of the inputs found reaches anything that the others do not; return how many."""
    found, chosen = WORK / name / "inputs", WORK / name / "chosen"
    corpus.unpack([], chosen)
    for file in chosen.iterdir():
        file.unlink()
    said = _call(name, str(chosen), str(found), "-merge=1", f"-max_len={corpus.INPUT_MAX_BYTES}", timeout_s=_MERGE_S)
    inputs = corpus.pack(chosen)
    if not inputs:
        raise RuntimeError(f"nothing was chosen of {name}:\n{said[-2_000:]}")
    return corpus.keep(name, inputs)


def _run_guided(name: str, seconds: int) -> Outcome:
    home = WORK / name
    corpus.unpack([*load(name).SEEDS, *corpus.kept(name)], home / "inputs")
    for old in home.glob("broke-*"):
        old.unlink()
    before_s = _cpu_s()
    said = _call(
        name,
        str(home / "inputs"),
        *(f"-max_total_time={seconds}", f"-timeout={_INPUT_S}", f"-rss_limit_mb={_MEMORY_MB}", "-print_final_stats=1"),
        *(f"-artifact_prefix={home / 'broke-'}", f"-max_len={4 * corpus.INPUT_MAX_BYTES}", f"-dict={_WORDS}"),
        timeout_s=seconds + _GRACE_S,
    )
    crash = next((file.read_bytes() for file in home.glob("broke-*")), None)
    if crash is None and not _EXECUTED.search(said):
        raise RuntimeError(f"{name} cannot be fuzzed:\n{said[-2_000:]}")
    return Outcome(name, _last(_EXECUTED, said), _cpu_s() - before_s, _last(_REACHED, said), crash, _tail(said), time.time())


def _call(name: str, *arguments: str, timeout_s: float) -> str:
    """Run libFuzzer, with the lowest priority, and return what it says."""
    command = ["nice", "-n", "19", sys.executable, "-m", "tests.fuzz.guided", name, *arguments]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
        check=False,
    )
    return done.stdout.decode(errors="replace")


def _run_unguided(name: str, seconds: int) -> Outcome:
    target = load(name)
    inputs = [*target.SEEDS, *corpus.kept(name)]
    began_s, before_s, executions = time.monotonic(), _cpu_s(), 0
    for data in takewhile(lambda _: time.monotonic() < began_s + seconds, mutants(inputs, time.time_ns())):
        executions += 1
        try:
            with silence():
                target.run(data)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is what was looked for
            return Outcome(name, executions, _cpu_s() - before_s, 0, data, repr(exc), time.time())
    return Outcome(name, executions, _cpu_s() - before_s, 0, None, "", time.time())


def _cpu_s() -> float:
    """Return the CPU seconds of this process and those it has waited for."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def _last(pattern: re.Pattern[str], text: str) -> int:
    found = pattern.findall(text)
    return int(found[-1]) if found else 0


def _tail(text: str) -> str:
    """Return what was said of what broke, if anything."""
    at = text.find("Uncaught Python exception")
    return text[at:][:6_000] if at >= 0 else text[-600:]
