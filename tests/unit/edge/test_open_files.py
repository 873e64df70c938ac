"""edge.open_files: the limit that a shell sets is for other programs."""

from __future__ import annotations

import resource

from edge.open_files import raise_limit


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    """What is left of it for connections is told."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 1_000), hard))
    try:
        assert raise_limit() > 0
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
