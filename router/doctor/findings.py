"""Findings: what was seen, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is, from nothing to do to something that does not work."""

    OK = "ok"
    NOTE = "note"
    """Good to know; nothing needs to be done."""
    WARNING = "warning"
    """It works, and something may be lost, late or open to others."""
    ERROR = "error"
    """Something does not work, or will not when it is needed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was seen.

    Attributes:
        severity: how bad it is.
        seen: what was found, for people.
        remedy: what to do about it; "" where there is nothing to do.
    """

    severity: Severity
    seen: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Examined:
    """A group of questions and what came of them."""

    group: str
    findings: Sequence[Finding]


def counted(number: int, noun: str, nouns: str) -> str:
    """Return a number of things in words."""
    return f"{number:,} {noun if number == 1 else nouns}"


def ok(seen: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Severity.OK, seen)


def note(seen: str, remedy: str = "") -> Finding:
    """Return a finding that is good to know."""
    return Finding(Severity.NOTE, seen, remedy)


def warning(seen: str, remedy: str) -> Finding:
    """Return a finding that should be looked after."""
    return Finding(Severity.WARNING, seen, remedy)


def error(seen: str, remedy: str) -> Finding:
    """Return a finding that has to be looked after."""
    return Finding(Severity.ERROR, seen, remedy)


def exit_code(examined: Iterable[Examined]) -> int:
    """Return 0 when there is nothing to do, 1 where the worst is a warning, 2 where it is an error."""
    severities = {finding.severity for one in examined for finding in one.findings}
    return 2 if Severity.ERROR in severities else int(Severity.WARNING in severities)
