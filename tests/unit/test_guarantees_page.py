"""docs/guarantees.md: it can be found, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

from router.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")


def test_readme_links_it() -> None:
    """Whoever reads what is promised finds what it rests on."""
    assert "(docs/guarantees.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_settings_it_names_are_there() -> None:
    """A word in code letters that ends in a unit is a setting."""
    named = set(re.findall(r"`([a-z_]+_(?:s|ms|bytes))`", PAGE))
    assert named
    assert named <= Settings.model_fields.keys()


def test_proof_it_names_is_there() -> None:
    """Each program or test in the table stands in the checkout."""
    _, _, shown_by = PAGE.partition("## Shown by")
    paths = re.findall(r"`((?:tests|scripts)/[\w/.]+)`", shown_by)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
