"""router.api_keys.file: reading, following and changing the file."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Thread

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from router.api_keys import file
from router.api_keys.file import FILE_MAX_BYTES, ApiKeys, change_keys, read_keys
from router.api_keys.key import ApiKey, KeysBroken, digest_of, to_toml
from router.errors import SetupError
from router.settings import Settings
from tests.servers import wait_until

pytestmark = pytest.mark.anyio

BILLING = ApiKey("billing", digest_of("one"), frozenset({"send"}))
SHOP = ApiKey("shop", digest_of("two"), frozenset({"read", "manage"}))
LOOK_S = 0.01


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file with one key."""
    path = tmp_path / "keys.toml"
    path.write_text(to_toml([BILLING]))
    return path


def _keys(path: Path) -> ApiKeys:
    return ApiKeys(Settings(api_keys_file=str(path), api_keys_reload_s=LOOK_S))


@asynccontextmanager
async def _followed(keys: ApiKeys) -> AsyncIterator[None]:
    stop = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keys.follow, stop)
        yield
        stop.set()


@contextmanager
def _looks(times: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[anyio.Event]:
    """Yield an event that is set once the file has been looked at so often from now on."""
    looked, count, read = anyio.Event(), 0, file._read

    def counted(path: Path) -> bytes:
        nonlocal count
        count += 1
        if count > times:  # what came of the one before is known
            anyio.from_thread.run_sync(looked.set)
        return read(path)

    with monkeypatch.context() as patched:
        patched.setattr(file, "_read", counted)
        yield looked


async def _until_found(keys: ApiKeys, shown: bytes) -> None:
    await anyio.to_thread.run_sync(wait_until, lambda: keys.ring.find(shown) is not None, "the key is known")


def _become(path: Path, content: str | None) -> None:
    """Put a whole file in the place of whatever is there; None puts nothing there."""
    if content is None:
        path.unlink()
        return
    draft = path.with_suffix(".new")
    draft.write_text(content)
    draft.replace(path)


def _make_pipe(path: Path) -> None:
    """Have whoever opens the file wait for one who writes it."""
    path.unlink()
    os.mkfifo(path)


def _end_waiting(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


def _named(logs: list[EventDict], event: str) -> list[EventDict]:
    return [line for line in logs if line["event"] == event]


async def test_what_has_changed_counts_without_a_restart(path: Path) -> None:
    """Keys come and go; the log has how many there are, and no hash."""
    keys = _keys(path)
    assert keys.ring.find(b"one") == BILLING
    with capture_logs() as logs, anyio.fail_after(10):
        async with _followed(keys):
            change_keys(path, lambda _: [SHOP])
            await _until_found(keys, b"two")
    assert keys.ring.find(b"one") is None
    assert [(line["event"], line["keys"]) for line in logs] == [("api_keys_read", 1)]


@pytest.mark.parametrize("broken", ["[[key]]", "\0", "x" * (FILE_MAX_BYTES + 1), None])
async def test_broken_file_keeps_the_keys_and_is_told_once(
    path: Path, broken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is looked at; and when it is mended, that is told."""
    keys = _keys(path)
    with capture_logs() as logs, anyio.fail_after(10):
        async with _followed(keys):
            _become(path, broken)
            with _looks(4, monkeypatch) as looked:
                await looked.wait()
            assert keys.ring.find(b"one") == BILLING
            assert len(_named(logs, "api_keys_unread")) == 1
            _become(path, to_toml([SHOP]))
            await _until_found(keys, b"two")
    assert [line["event"] for line in logs] == ["api_keys_unread", "api_keys_read"]


async def test_reading_that_hangs_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a network may; the keys stay, and the service goes on."""
    keys = _keys(path)
    _make_pipe(path)
    monkeypatch.setattr(file, "READ_TIMEOUT_S", 0.05)
    with capture_logs() as logs, anyio.fail_after(10):
        async with _followed(keys):
            await anyio.to_thread.run_sync(wait_until, lambda: bool(logs), "a line in the log")
            assert keys.ring.find(b"one") == BILLING
    _end_waiting(path)
    assert "within" in logs[0]["why"]


async def test_without_a_file_nothing_is_followed() -> None:
    """The setting alone is enough."""
    keys = ApiKeys(Settings(api_key="k" * 32))
    with anyio.fail_after(10):
        await keys.follow(anyio.Event())


@pytest.mark.parametrize("content", [None, "[[key]]"])
def test_start_needs_a_file_that_can_be_read(tmp_path: Path, content: str | None) -> None:
    """The error names the setting and the file."""
    path = tmp_path / "keys.toml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SetupError, match=f"api_keys_file {path}: "):
        _keys(path)


def test_start_needs_a_key_or_a_file_of_them() -> None:
    """Otherwise nobody could be told from anybody."""
    with pytest.raises(SetupError, match="neither api_key nor api_keys_file is set"):
        ApiKeys(Settings())


def test_file_that_others_may_write_is_warned_of(path: Path) -> None:
    """Who writes it has all keys; who reads it has hashes."""
    for mode, warnings in ((0o644, 0), (0o620, 1), (0o602, 1)):
        path.chmod(mode)
        with capture_logs() as logs:
            _keys(path)
        assert len(_named(logs, "api_keys_found_open_to_others")) == warnings


def test_changed_file_is_its_owners_alone(tmp_path: Path) -> None:
    """Mode 0600, made where there was none, and nothing is left beside it."""
    path = tmp_path / "keys.toml"
    change_keys(path, lambda keys: [*keys, BILLING])
    change_keys(path, lambda keys: [*keys, SHOP])
    assert read_keys(path) == (BILLING, SHOP)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_failed_change_leaves_the_file_as_it_is(path: Path) -> None:
    """Be it the function that fails, or what comes of it."""
    before = path.read_bytes()
    with pytest.raises(KeysBroken, match="one key"):
        change_keys(path, lambda keys: [*keys, *keys])
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_link_is_followed(path: Path, tmp_path: Path) -> None:
    """It goes on being one."""
    link = tmp_path / "link.toml"
    link.symlink_to(path)
    change_keys(link, lambda _: [SHOP])
    assert link.is_symlink()
    assert read_keys(path) == (SHOP,)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_owner_stays(path: Path) -> None:
    """A service can still read what root has changed."""
    os.chown(path, 12345, 12345)
    change_keys(path, lambda _: [SHOP])
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


def test_changes_wait_for_each_other(path: Path) -> None:
    """Of many at once none is lost."""

    def add(number: int) -> None:
        key = ApiKey(f"k{number}", digest_of(str(number)), frozenset({"send"}))
        change_keys(path, lambda keys: [*keys, key])

    threads = [Thread(target=add, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_keys(path)) == 21


def test_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    """As a misspelt folder."""
    with pytest.raises(KeysBroken, match=r"nowhere/keys\.toml: No such file"):
        change_keys(tmp_path / "nowhere" / "keys.toml", lambda _: [SHOP])
