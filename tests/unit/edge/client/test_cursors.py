"""edge.client.cursors: what is kept comes back, never goes backwards, and is never half of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from edge.client import CursorsDamaged, CursorStore, FileCursors, MemoryCursors

pytestmark = pytest.mark.anyio

SOME: Final = {"user:alice": 1_732_262_400_123_456, "topic:Nähe": 0}


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> CursorStore:
    """Each kind of store, empty."""
    return MemoryCursors() if request.param == "memory" else FileCursors(tmp_path / "cursors.json")


async def test_empty_at_the_beginning(store: CursorStore) -> None:
    """Nothing kept is no error."""
    assert await store.load() == {}


async def test_saved_comes_back(store: CursorStore) -> None:
    """Target by target, the newest."""
    await store.load()
    await store.save(SOME)
    await store.save({**SOME, "topic:Nähe": 5})
    assert await store.load() == {**SOME, "topic:Nähe": 5}


async def test_what_is_left_out_is_forgotten(store: CursorStore) -> None:
    """And may begin anew, with a lower one."""
    await store.load()
    await store.save({"user:alice": 5, "topic:news": 7})
    await store.save({"user:alice": 5})
    assert await store.load() == {"user:alice": 5}
    await store.save({"user:alice": 5, "topic:news": 3})
    assert await store.load() == {"user:alice": 5, "topic:news": 3}


async def test_file_serves_the_next_process(tmp_path: Path) -> None:
    """Another store of the same file has what the first saved, and nothing else is left in the folder."""
    await FileCursors(tmp_path / "c").save(SOME)
    assert await FileCursors(str(tmp_path / "c")).load() == SOME
    assert _names(tmp_path) == ["c"]


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_file_never_goes_backwards(tmp_path: Path) -> None:
    """Neither when saved by who has loaded nothing, nor does that forget a target."""
    await FileCursors(tmp_path / "c").save({"user:alice": 5, "all": 7})
    await FileCursors(tmp_path / "c").save({"user:alice": 4})
    assert await FileCursors(tmp_path / "c").load() == {"user:alice": 5, "all": 7}


async def test_file_that_says_so_already_is_left_alone(tmp_path: Path) -> None:
    """Saving the same costs the disk nothing."""
    store = FileCursors(tmp_path / "c")
    await store.save(SOME)
    before = (tmp_path / "c").stat()
    await store.save(SOME)
    assert (tmp_path / "c").stat() == before


async def test_write_that_broke_off_does_no_harm(tmp_path: Path) -> None:
    """What a killed process left beside the file is overwritten, and never read."""
    await FileCursors(tmp_path / "c").save(SOME)
    (tmp_path / "c.new").write_text('{"cursors": {"user:al')
    store = FileCursors(tmp_path / "c")
    assert await store.load() == SOME
    await store.save({**SOME, "all": 1})
    assert await FileCursors(tmp_path / "c").load() == {**SOME, "all": 1}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "not JSON"),
        (b'{"cursors": {"user:al', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", 'no object "cursors"'),
        (b"{}", 'no object "cursors"'),
        (b'{"cursors": {"user:alice": "5"}}', "user:alice has no seq"),
        (b'{"cursors": {"user:alice": true}}', "user:alice has no seq"),
        (b'{"cursors": {"user:alice": -1}}', "user:alice has no seq"),
        (b'{"cursors": {"user:alice": 9007199254740992}}', "user:alice has no seq"),
    ],
)
async def test_damaged_file_is_told_and_left_as_it_is(content: bytes, why: str, tmp_path: Path) -> None:
    """The error says which file, what is wrong with it, and what to do; nothing is written over it."""
    path = tmp_path / "c"
    path.write_bytes(content)
    with pytest.raises(CursorsDamaged, match=why) as damaged:
        await FileCursors(path).load()
    assert str(path) in str(damaged.value)
    assert "remove it to begin anew" in str(damaged.value)
    with pytest.raises(CursorsDamaged):
        await FileCursors(path).save(SOME)
    assert path.read_bytes() == content


async def test_file_that_cannot_be_written_stands_as_before(tmp_path: Path) -> None:
    """The error is the system's; a later save makes up for it."""
    path = tmp_path / "c"
    store = FileCursors(path)
    await store.save({"all": 1})
    (tmp_path / "c.new").mkdir()
    with pytest.raises(IsADirectoryError):
        await store.save({"all": 2})
    assert json.loads(path.read_text()) == {"cursors": {"all": 1}}
    (tmp_path / "c.new").rmdir()
    await store.save({"all": 2})
    assert await FileCursors(path).load() == {"all": 2}
