"""How `--help` reads: a switch asks for no value, other options name theirs, paragraphs are as wide as the terminal.

Typer would show `--json <bool>`, `{user}`, and each paragraph with the line breaks of its docstring.
"""

from __future__ import annotations

import inspect
from typing import Any

from typer.core import TyperCommand, TyperGroup


class TaughtCommand(TyperCommand):
    """A command."""

    def __init__(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - click's signature, passed on
        super().__init__(*args, **options)
        self.help = flowing(self.help)

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - click's signature, passed on
        """Return the parameters, `--help` included, as they are shown."""
        return [_named(param) for param in super().get_params(ctx)]


class TaughtGroup(TyperGroup):
    """A group of commands."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - click's signature, passed on
        super().__init__(**options)
        self.help = flowing(self.help)

    def get_params(self, ctx: Any) -> list[Any]:  # noqa: ANN401 - click's signature, passed on
        """Return the parameters, `--help` included, as they are shown."""
        return [_named(param) for param in super().get_params(ctx)]


def flowing(text: str | None) -> str | None:
    """Return a help text whose paragraphs have no line breaks of their own."""
    return text and "\n\n".join(paragraph.replace("\n", " ") for paragraph in inspect.cleandoc(text).split("\n\n"))


def _named(param: Any) -> Any:  # noqa: ANN401 - an option or an argument of click's
    if param.metavar is None:
        param.metavar = "" if getattr(param, "is_flag", False) else param.name.upper()
    return param
