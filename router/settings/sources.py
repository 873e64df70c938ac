"""Where settings come from: the file, the variables and the flags, and errors that name what is wrong in them."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from router.combined import problems
from router.errors import SettingError
from router.settings.model import SECRETS, Settings, accepted_values

ENV_PREFIX = "PUSHWAY_"
CONFIG_VARIABLE = "PUSHWAY_CONFIG"
FILE_SUFFIX = "_FILE"


def load_settings(
    *,
    config: Path | None = None,
    environ: Mapping[str, str],
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Return the settings in force.

    Args:
        config: the TOML file; None takes the one that `PUSHWAY_CONFIG` names, if any.
        environ: the environment, where `PUSHWAY_*` variables are looked for.
        flags: settings given on the command line; None values count as not given.

    Raises:
        SettingError: for names that do not exist and values that are not accepted, all in one; or a file that cannot be read.
    """
    layers: list[tuple[dict[str, object], str]] = []
    path = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if path is not None:
        layers.append((_read_toml(path), str(path)))
    layers.extend(_read_environ(environ))
    layers.extend(({name: value}, "flag") for name, value in (flags or {}).items() if value is not None)

    found = {name: (value, source) for layer, source in layers for name, value in layer.items()}
    unknown = [
        SettingError(name, source, f"there is no such setting{_suggest(name)}")
        for name, (_, source) in found.items()
        if name not in Settings.model_fields
    ]
    known = {name: value for name, (value, _) in found.items() if name in Settings.model_fields}
    try:
        settings = Settings.model_validate(known)
    except ValidationError as exc:
        raise _together(unknown + _not_accepted(exc, {name: source for name, (_, source) in found.items()})) from None
    wrong = [SettingError(name, found[name][1] if name in found else "default", text) for name, text in problems(settings)]
    if unknown or wrong:
        raise _together(unknown + wrong)
    return settings


def _not_accepted(exc: ValidationError, sources: Mapping[str, str]) -> list[SettingError]:
    """Return an error for each setting that has a value it does not accept."""
    errors: dict[str, SettingError] = {}
    for error in exc.errors(include_url=False):
        name = str(error["loc"][0])
        got = "that value" if name in SECRETS else repr(error["input"])
        errors[name] = SettingError(name, sources.get(name, "default"), f"{got} is not accepted; {_accepts(name)}")
    return list(errors.values())


def _together(errors: list[SettingError]) -> SettingError:
    first, *others = errors
    return SettingError(first.name, first.source, first.problem, tuple(others))


def _read_toml(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        raise SettingError("config", str(path), f"the file cannot be read ({exc.strerror})") from None
    except (ValueError, RecursionError) as exc:  # also for bytes that are no UTF-8, and for numbers of thousands of digits
        raise SettingError("config", str(path), f"the file is not TOML ({exc})") from None


def _read_environ(environ: Mapping[str, str]) -> list[tuple[dict[str, object], str]]:
    layers: list[tuple[dict[str, object], str]] = []
    for variable, value in environ.items():
        if not variable.startswith(ENV_PREFIX) or variable == CONFIG_VARIABLE:
            continue
        name = variable.removeprefix(ENV_PREFIX).lower()
        secret = name.removesuffix(FILE_SUFFIX.lower())
        if name not in Settings.model_fields and name.endswith(FILE_SUFFIX.lower()) and secret in SECRETS:
            try:
                layers.append(({secret: Path(value).read_text(encoding="utf-8").strip()}, variable))
            except OSError as exc:
                raise SettingError(secret, variable, f"{value} cannot be read ({exc.strerror})") from None
            except ValueError as exc:
                raise SettingError(secret, variable, f"{value!r} cannot be read as text ({exc})") from None
        else:
            layers.append(({name: value}, variable))
    return layers


def _suggest(name: str) -> str:
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    return f"; did you mean {close[0]}?" if close else "; docs/settings.md lists them all"


def _accepts(name: str) -> str:
    field = Settings.model_fields[name]
    return f"it takes {accepted_values(name)}. {field.description}"
