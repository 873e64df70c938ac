"""What settings are made of: numbers with bounds, and lists that a variable can give as a text."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field


def _split_commas(value: object) -> object:
    """Let a variable or a flag give a list as `a,b`."""
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_split_commas)]


def _split_lines(value: object) -> object:
    """Let a variable or a file give a list as `a,b`, or one a line."""
    return value.replace(",", " ").split() if isinstance(value, str) else value


Secrets = Annotated[tuple[str, ...], BeforeValidator(_split_lines)]

Port = Annotated[int, Field(ge=1, le=65535)]
OpsPort = Annotated[int, Field(ge=0, le=65535)]
Ms = Annotated[int, Field(ge=1, le=10**12)]
Seconds = Annotated[float, Field(gt=0, le=1e9)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[int, Field(ge=1)]
