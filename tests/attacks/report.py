"""What came of attacks, for people: a table, and what of it is not as it must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.table import Table

from tests.attacks.stand import Outcome
from tests.attacks.target import GOT_IN, Attack

FLOOR_MIB: Final = 16.0
"""What an edge grows by in any case while its allocator finds room: several attacks of a second reach it with nothing held."""

LINES_MAX: Final = 60
"""Most lines that an edge may write meanwhile: ten of a kind in ten seconds (`log_repeats_max`), of a few kinds."""

_COLUMNS: Final = (
    "attack",
    "from",
    "edge MiB before",
    "peak",
    "after",
    "CPU",
    "closed",
    "missed",
    "p99 quiet",
    "p99",
    "ratio",
    "closes",
)


def table(outcomes: Sequence[Outcome]) -> Table:
    """Return a line an attack."""
    made = Table(*_COLUMNS)
    for one in outcomes:
        memory = (one.memory.before_mib, one.memory.peak_mib, one.memory.after_mib)
        made.add_row(
            *(one.attack, "one address" if one.sources == 1 else f"{one.sources:,} addresses"),
            *(f"{mib:.0f}" for mib in memory),
            *(f"{one.cpu:.0%}", str(len(one.served.closed)), str(one.served.missed)),
            *(f"{one.quiet.p99_ms:.1f} ms", f"{one.served.p99_ms:.1f} ms", f"{one.ratio:.1f}"),
            in_words(one.codes),
        )
    return made


def in_words(counts: Mapping[str, float]) -> str:
    """Return counts by name, the largest first."""
    return ", ".join(f"{name}: {count:,.0f}" for name, count in sorted(counts.items(), key=lambda item: -item[1])) or "none"


def faults(outcome: Outcome, attack: Attack) -> Iterator[str]:
    """Yield what an attack has done that it must not be able to do."""
    served = outcome.served
    if served.closed:
        yield f"honest clients were disconnected: {served.closed}"
    if served.missed:
        yield f"{served.missed} messages of {served.sent} did not come"
    if served.doubled:
        yield f"{served.doubled} messages came again"
    if outcome.memory.grown_mib > attack.memory_mib + FLOOR_MIB:
        yield f"the edge grew by {outcome.memory.grown_mib:.0f} MiB, more than {attack.memory_mib} and {FLOOR_MIB}"
    if outcome.log_lines > LINES_MAX:
        yield f"the edge wrote {outcome.log_lines} lines"
    if strange := set(outcome.codes) - attack.codes:
        yield f"the edge closed with {sorted(strange)}"
    if let_in := {what: count for what, count in outcome.seen.items() if what.startswith(GOT_IN)}:
        yield in_words(let_in)
    if missing := [what for what in attack.reached if not outcome.seen.get(what)]:
        yield f"the attack did not get as far as {missing}"
    if not any(name.startswith(attack.counted) for name in outcome.rose):
        yield f"none of {attack.counted} rose"
