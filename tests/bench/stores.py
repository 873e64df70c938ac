"""The stores that the durable path is measured on, beside the embedded one: one that keeps nothing, and one of another make.

`secantus-mdb` is the fast server of the project that the embedded store is of. It is GPL and takes minutes to build, so it is
measured where somebody asks for it, and only ever started by its own command.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import null_store
from tests.bench.peers.packages import cargo
from tests.servers import Store

_MDB_PROGRAM: Final = "secantusd-rs"

_MDB_VERSION: Final = "0.5.3-beta.196"
"""Named because there are but versions before the first, which cargo does not take by itself."""


class NullStore(Store):
    """The store that keeps nothing, as a process."""

    def command(self) -> list[str]:
        """Return the command line."""
        return [sys.executable, null_store.__file__, str(self.port)]


class SecantusMdb(Store):
    """`secantus-mdb`, set up to keep what it acknowledges.

    It does not look at `j`: without `--sync-on-commit` what it acknowledged is gone after kill -9.
    """

    def command(self) -> list[str]:
        """Return the command line.

        Raises:
            SkippedError: when it is neither here nor can be built here.
        """
        data = self.folder / "store"
        return [
            *(str(mdb_program()), "--host", "127.0.0.1", "--port", str(self.port), "--storage-path", str(data)),
            *("--standalone", "--sync-on-commit", "--log-level", "WARNING"),
        ]


def mdb_is_here() -> bool:
    """Tell whether it is on the path, so that nothing has to be built."""
    return shutil.which(_MDB_PROGRAM) is not None


def mdb_program() -> Path:
    """Return the program: the one on the path, or one that cargo builds.

    Raises:
        SkippedError: when it cannot be had here.
    """
    found = shutil.which(_MDB_PROGRAM)
    return Path(found) if found else cargo("secantus-mdb", _MDB_VERSION, needs=("cmake",)) / "bin" / _MDB_PROGRAM


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of store.

    Attributes:
        name: of its rows in the report's file, and `replay` behind it those that are replayed from it.
        title: in the tables.
        server: what is started.
        replays: what a replay from it is called; "" where it has nothing to replay.
    """

    name: str
    title: str
    server: type[Store]
    replays: str = ""


NULL: Final = Kind("durable_null", "durable, null store", NullStore)
EMBEDDED: Final = Kind("durable", "durable, embedded store", Store, "replay")
MDB: Final = Kind("durable_mdb", "durable, secantus-mdb", SecantusMdb, "replay_mdb")
