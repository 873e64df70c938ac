"""The data folder: one `up` at a time in it, its settings file, its logs.

up.lock            locked while an `up` runs on the folder
pushway.toml       the settings in force; it holds secrets, hence mode 0600
auth-key.pem       what tokens are signed with
redis/ store/      data of the embedded servers
logs/<child>.log   what each child printed since its start, .log.1 what came before
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from router.combined import SHOWN_MIN_CHARS
from router.errors import SetupError
from router.settings import Settings

LOG_MAX_BYTES: Final = 10 * 1024 * 1024
"""A log longer than this is moved aside; one older piece is kept."""

_HEADER: Final = """\
# Written by `pushway up` at every start, and not read by it, but for api_key and shards, which it keeps.
# To change a setting: pushway up --set name=value, a PUSHWAY_NAME variable, or pushway up --config FILE.

"""


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Hold the folder for one `up`; make it where there is none.

    Raises:
        SetupError: when another `up` has it, or it cannot be made.
    """
    try:
        for folder in (data, data / "logs", data / "redis", data / "store"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data / "up.lock").open("ab")
    except OSError as exc:
        raise SetupError(f"the data folder {data} cannot be used ({exc.strerror}); pass --data DIR") from None
    with lock:
        try:
            # Children do not inherit the open file, so the lock ends with this process, however that comes about.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(f"another `pushway up` runs on {data}; end that one first, or pass --data DIR") from None
        yield


@dataclass(frozen=True, slots=True)
class Kept:
    """What a folder's first start decides for the later ones.

    Attributes:
        api_key: what back ends were given.
        shards: how the data is divided; None before the first start.
    """

    api_key: str
    shards: int | None = None


def kept(config: Path) -> Kept:
    """Return what an earlier settings file keeps, with a new key where it has none, or one that is too short."""
    try:
        found = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    api_key, shards = found.get("api_key"), found.get("shards")
    return Kept(
        api_key=api_key if isinstance(api_key, str) and len(api_key) >= SHOWN_MIN_CHARS else secrets.token_urlsafe(32),
        shards=shards if isinstance(shards, int) and shards > 0 else None,
    )


def write_config(config: Path, settings: Settings) -> None:
    """Replace the settings file, at once or not at all, readable by its owner alone."""
    draft = config.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(_HEADER + to_toml(settings))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(config)


def to_toml(settings: Settings) -> str:
    """Return the settings as the text of a flat TOML file."""
    # What JSON writes for texts, numbers, truths and lists of them is TOML as well.
    values = settings.model_dump(mode="json")
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def begin_log(log: Path) -> None:
    """Put an earlier start's log aside."""
    if log.exists():
        log.replace(log.with_suffix(".log.1"))


def bound_log(log: Path) -> None:
    """Cut a log that has grown too long. Its writer appends, and so goes on at the new end.

    What is written between the copy and the cut is lost.
    """
    if log.exists() and log.stat().st_size > LOG_MAX_BYTES:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def log_tail(log: Path, lines: int = 15, max_bytes: int = 16_384) -> str:
    """Return the last lines of a log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - max_bytes))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])
