"""`pushway doctor`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import typer
from rich.console import Console
from rich.text import Text

from router.commands.options import AsJson, FoundConfig, people_settings, settings_file
from router.commands.output import print_json, printable
from router.doctor.examination import BEGUN, examine
from router.doctor.findings import Examined, Severity, counted, error, exit_code
from router.errors import SettingError

_MARKS: Final = {
    Severity.OK: ("✓", "green"),
    Severity.NOTE: ("·", "cyan"),
    Severity.WARNING: ("!", "bold yellow"),
    Severity.ERROR: ("✗", "bold red"),
}


def doctor(config: FoundConfig = None, as_json: AsJson = False) -> None:
    """Examine settings, servers and what stands in them; say what is amiss, and what to do.

    It only reads, and never waits long for anybody. The exit code is 0 when there is nothing to do, 1 where the worst is a
    warning, 2 where it is an error.

    Example: pushway doctor --json
    """
    examined = _examined(config)
    if as_json:
        print_json([_told(one) for one in examined])
    else:
        print_findings(examined, Console(highlight=False))
    raise typer.Exit(exit_code(examined))


def _examined(config: Path | None) -> Sequence[Examined]:
    try:
        settings = people_settings(config)
    except SettingError as exc:
        remedy = "mend it there; until then no service starts with these settings, and nothing else is looked at"
        found = [error(f"{one.name} ({one.source}): {one.problem}", remedy) for one in (exc, *exc.others)]
        return [Examined("settings", found)]
    with _progress() as tell:
        return anyio.run(partial(examine, settings, settings_file(config), tell))


@contextmanager
def _progress() -> Iterator[Callable[[str, str], None]]:
    """Yield what is told of each group's progress, and shows it where there is a terminal."""
    busy: dict[str, str] = {}
    console = Console(stderr=True)
    with console.status("looking") as status:

        def tell(group: str, what: str) -> None:
            busy.pop(group, None)
            if what:
                busy[group] = what
            status.update("looking at " + ", ".join(name if at == BEGUN else f"{name} ({at})" for name, at in busy.items()))

        yield tell


def print_findings(examined: Sequence[Examined], console: Console) -> None:
    """Print findings by group, what to do about one beneath it, and the sum."""
    for one in examined:
        console.print(Text(one.group, "bold"))
        for finding in one.findings:
            mark, style = _MARKS[finding.severity]
            word = "" if finding.severity in {Severity.OK, Severity.NOTE} else f"{finding.severity}: "
            text = Text.assemble("  ", (f"{mark} ", style), (word, style), printable(finding.seen))
            console.print(text, soft_wrap=True)
            if finding.remedy:
                console.print(Text.assemble("      → ", printable(finding.remedy), style="dim"), soft_wrap=True)
    console.print(Text(_sum(examined), "bold"))


def _sum(examined: Sequence[Examined]) -> str:
    severities = [finding.severity for one in examined for finding in one.findings]
    counts = [(severities.count(severity), severity) for severity in (Severity.ERROR, Severity.WARNING)]
    told = [counted(count, severity, f"{severity}s") for count, severity in counts if count]
    return ", ".join(told) or "Nothing to do."


def _told(one: Examined) -> dict[str, object]:
    return {"group": one.group, "findings": one.findings}
