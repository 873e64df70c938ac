"""Who may import whom: edge rests on router, router on nothing of edge but where it starts processes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge
import router

STARTS_PROCESSES = ("router.commands", "router.up")

FOLDERS = [Path(str(package.__file__)).parent for package in (router, edge)]
MODULES = sorted(path for folder in FOLDERS for path in folder.rglob("*.py"))


def _name(path: Path) -> str:
    """Return the dotted name of a module of router or edge."""
    root = next(folder.parent for folder in FOLDERS if path.is_relative_to(folder))
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield the dotted names of all that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: -node.level + 1 or None] if node.level else []
            yield ".".join([*above, *([node.module] if node.module else [])])


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_router_never_imports_edge(path: Path) -> None:
    """Only the commands, and what runs them all on one machine, know of both."""
    name = _name(path)
    if name.startswith("edge") or name.startswith(STARTS_PROCESSES):
        return
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    imported = set(_imports(ast.parse(path.read_text(encoding="utf-8")), package))
    assert not {module for module in imported if module.split(".")[0] == "edge"}


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_tests_are_nobody_s_ground(path: Path) -> None:
    """What is shipped imports nothing that is not."""
    imported = set(_imports(ast.parse(path.read_text(encoding="utf-8")), _name(path)))
    assert not {module for module in imported if module.split(".")[0] in ("tests", "scripts")}
