"""Which stores can be measured here: the one on the path, the one that cargo builds, or none and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.bench import Bench
from tests.bench.peers import packages
from tests.bench.peers.packages import SkippedError
from tests.bench.results import begin
from tests.bench.scenes.store import side_by_side
from tests.bench.stores import EMBEDDED, MDB, NULL, SecantusMdb, mdb_program
from tests.bench.wishes import ALL, Wishes

CARGO = """#!/bin/sh
{says}
while [ "$1" != --root ]; do shift; done
mkdir -p "$2/bin" && echo > "$2/bin/secantusd-rs"
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on the path but those of the system's own small programs, and have packages go elsewhere."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/bin")
    monkeypatch.setattr(packages, "CACHE", tmp_path / "cache")
    monkeypatch.setattr("shutil.which", lambda name: str(folder / name) if (folder / name).exists() else None)
    return folder


def put(tools: Path, name: str, text: str = "#!/bin/sh\n") -> Path:
    """Write a program."""
    (tools / name).write_text(text, encoding="utf-8")
    (tools / name).chmod(0o755)
    return tools / name


def warnings_of(scenes: Wishes) -> tuple[list[str], list[str], dict[str, str]]:
    """Return what is measured side by side, what people are told before, and what is skipped."""
    told: list[str] = []
    results = begin({})
    kinds = side_by_side(Bench(scenes, results, lambda _: None, told.append))
    return [kind.name for kind in kinds], told, results.skipped


def test_one_on_the_path_is_used(tools: Path, tmp_path: Path) -> None:
    """What is installed is used as it is, and set up to keep what it acknowledges."""
    program = put(tools, "secantusd-rs")
    command = SecantusMdb(tmp_path / "store").command()
    assert command[0] == str(program)
    assert "--sync-on-commit" in command
    assert warnings_of(Wishes(scenes=("stores",))) == ([NULL.name, EMBEDDED.name, MDB.name], [], {})


def test_cargo_builds_one(tools: Path) -> None:
    """Where none is installed cargo builds one, and people are told before that it takes a while."""
    put(tools, "cmake")
    put(tools, "cargo", CARGO.format(says=""))
    kinds, told, skipped = warnings_of(Wishes(scenes=ALL))
    assert (kinds, skipped) == ([EMBEDDED.name, MDB.name], {})  # the null store has its turn among the lanes
    assert "several minutes" in told[0]
    assert mdb_program().exists()


def test_compiler_too_old(tools: Path) -> None:
    """What cargo says against it is why it is skipped, and the others are measured."""
    put(tools, "cmake")
    put(tools, "cargo", CARGO.format(says="echo 'requires rustc 1.98 or newer' >&2; exit 101"))
    kinds, _, skipped = warnings_of(Wishes(scenes=("stores",)))
    assert kinds == [NULL.name, EMBEDDED.name]
    assert "requires rustc 1.98 or newer" in skipped[MDB.title]


def test_no_cargo(tools: Path) -> None:
    """Without what builds it, it is skipped, and what is missing is named."""
    with pytest.raises(SkippedError, match="cmake is not installed"):
        mdb_program()
    put(tools, "cmake")
    with pytest.raises(SkippedError, match="cargo is not installed"):
        mdb_program()
