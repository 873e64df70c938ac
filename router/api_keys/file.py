"""The file of API keys: read at the start, looked at every few seconds, written by `pushway keys`.

A file that cannot be read any more, or is broken, changes nothing: a slip in it must neither lock all back ends out nor let
anybody in. It is read whole at each look, for it is small, and what its name and times say may lag behind what stands in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import structlog

from router.api_keys.key import ApiKey, KeysBroken, parse_keys, to_toml
from router.api_keys.ring import Keyring
from router.errors import SetupError
from router.settings import Settings

log = structlog.get_logger(__name__)

FILE_MAX_BYTES: Final = 262_144
"""Longest file: several times what the most keys take."""

READ_TIMEOUT_S: Final = 5.0
"""How long a look may take; a file of a network may hang."""

_WRITABLE_BY_OTHERS: Final = 0o022


class ApiKeys:
    """The keys of a service that answers back ends.

    Args:
        settings: `api_key`, `api_keys_file` and how often that is looked at.

    Raises:
        SetupError: when neither is set, or the file cannot be read or is broken.
    """

    def __init__(self, settings: Settings) -> None:
        if not settings.api_key and not settings.api_keys_file:
            raise SetupError(
                "neither api_key nor api_keys_file is set, and without one nobody could be told from anybody. Set "
                "PUSHWAY_API_KEY_FILE to a file with a key of at least 32 characters, as `openssl rand -base64 32` prints, or "
                "api_keys_file to one that `pushway keys make` has made."
            )
        self.ring = Keyring(settings.api_key)
        self._path = Path(settings.api_keys_file) if settings.api_keys_file else None
        self._look_s = settings.api_keys_reload_s
        self._raw = b""
        self._trouble = ""
        if self._path is not None:
            self._start(self._path)

    async def follow(self, stop: anyio.Event) -> None:
        """Have the ring hold what the file says, until the event is set or it is cancelled; without a file return at once."""
        if self._path is None:
            return
        # A look that hangs keeps its thread, and the next waits for it.
        one_at_a_time = anyio.CapacityLimiter(1)
        while not stop.is_set():
            await self._look(self._path, one_at_a_time)
            with anyio.move_on_after(self._look_s):
                await stop.wait()

    def _start(self, path: Path) -> None:
        try:
            self._take(_read(path))
        except (OSError, KeysBroken) as exc:
            raise SetupError(f"api_keys_file {path}: {_why(exc)}") from None
        if stat.S_IMODE(path.stat().st_mode) & _WRITABLE_BY_OTHERS:
            log.warning("api_keys_found_open_to_others", path=str(path), expected="mode 0600")

    async def _look(self, path: Path, one_at_a_time: anyio.CapacityLimiter) -> None:
        try:
            with anyio.fail_after(READ_TIMEOUT_S):
                raw = await anyio.to_thread.run_sync(_read, path, abandon_on_cancel=True, limiter=one_at_a_time)
            self._take(raw)
        except (OSError, KeysBroken) as exc:  # TimeoutError is an OSError
            self._tell(path, _why(exc))

    def _take(self, raw: bytes) -> None:
        """Hold what stands in a file.

        Raises:
            KeysBroken: when that is not keys; those of before are held on to.
        """
        if raw == self._raw and not self._trouble:
            return
        keys = parse_keys(_text(raw))
        self.ring.replace(keys)
        self._raw, self._trouble = raw, ""
        log.info("api_keys_read", path=str(self._path), keys=len(keys))

    def _tell(self, path: Path, why: str) -> None:
        if why != self._trouble:
            log.warning("api_keys_unread", path=str(path), why=why)
        self._trouble = why


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """Return the keys in a file.

    Raises:
        KeysBroken: when it cannot be read, or is no such file; the text names it.
    """
    try:
        return parse_keys(_text(_read(path)))
    except (OSError, KeysBroken) as exc:
        raise KeysBroken(f"{path}: {_why(exc)}") from None


def change_keys(path: Path, change: Callable[[tuple[ApiKey, ...]], Iterable[ApiKey]]) -> tuple[ApiKey, ...]:
    """Replace the keys in a file by what a function makes of them, at once or not at all; return them.

    There need be no file yet. What it becomes has mode 0600 and the owner of before. Others that change it meanwhile wait.

    Raises:
        KeysBroken: when it cannot be read or written, or the function says so.
    """
    path = path.resolve()  # what a symbolic link leads to is replaced, not the link
    try:
        with _locked(path.parent):
            keys = tuple(change(read_keys(path) if path.exists() else ()))
            parse_keys(to_toml(keys))  # nobody is to find it broken: such as by one key too many
            _write(path, to_toml(keys))
    except OSError as exc:
        raise KeysBroken(f"{path}: {_why(exc)}") from None
    return keys


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        raw = file.read(FILE_MAX_BYTES + 1)
    if len(raw) > FILE_MAX_BYTES:
        raise KeysBroken(f"it is longer than {FILE_MAX_BYTES} bytes")
    return raw


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise KeysBroken("it is not UTF-8") from None


def _why(exc: OSError | KeysBroken) -> str:
    if isinstance(exc, TimeoutError):
        return f"it could not be read within {READ_TIMEOUT_S:g} s"
    return (exc.strerror or type(exc).__name__) if isinstance(exc, OSError) else str(exc)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep others from changing files here meanwhile. The folder is locked, for the file itself is another one afterwards."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)  # so that the file's name outlives a power cut
    finally:
        os.close(descriptor)


def _write(path: Path, text: str) -> None:
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _keep_owner(path, descriptor)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def _keep_owner(path: Path, descriptor: int) -> None:
    """Give the new file to the owner of the old one: a service must be able to read what root has changed."""
    if path.exists():
        before, now = path.stat(), os.fstat(descriptor)
        if (before.st_uid, before.st_gid) != (now.st_uid, now.st_gid):
            os.fchown(descriptor, before.st_uid, before.st_gid)
