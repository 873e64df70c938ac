"""deploy/redis/users.acl: what router.redis_users says, which grants what scripts and code need and nothing dangerous."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

import lua
from router.keys import Keys
from router.redis_users import ADMIN, AUTH, COLLECT, DISPATCH, EDGE, OPERATOR, PRODUCER, USERS, RedisUser, acl_lines

ROOT: Final = Path(__file__).parents[2]

ENTRIES: Final = {
    AUTH: "router.auth.service",
    COLLECT: "router.collect.service",
    DISPATCH: "router.dispatch",
    EDGE: "edge.service",
    OPERATOR: "router.presence",
    ADMIN: "router.forget",
}

NOT_RUN: Final = {EDGE: {"kick"}, AUTH: {"kick"}}
"""Scripts of modules that a service loads for something else: `router.notices` says how a notice is written."""

DANGEROUS: Final = (
    "keys flushall flushdb config debug shutdown save bgsave bgrewriteaof monitor replicaof slaveof sort migrate restore dump "
    "module swapdb eval script function psync sync failover cluster latency slowlog publish subscribe psubscribe rename "
    "randomkey client"
)

_CALL: Final = re.compile(r"\b(?:p?call|attempt|read)\((?:[\w{}]+, )?'([A-Z]+)'(?:, '(SETID|CREATE)')?")
_LISTED: Final = re.compile(r"\+([\w|-]+)")


def _granted(user: RedisUser) -> set[str]:
    return set(_LISTED.findall(user.line("push")))


def _called(script: str) -> set[str]:
    """Return the commands that a script calls, as ACLs name them."""
    body = "\n".join(line for line in lua.source(script).splitlines() if not line.lstrip().startswith("--"))
    return {"|".join(filter(None, found)).lower() for found in _CALL.findall(body)}


@cache
def _file_of(module: str) -> Path | None:
    path = ROOT / Path(*module.split("."))
    found = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in found if file.exists()), None)


def _imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def _modules(entry: str) -> Iterator[Path]:
    """Yield the files of all modules of ours that are loaded with one."""
    known, waiting = set[str](), [entry]
    while waiting:
        module = waiting.pop()
        file = _file_of(module) if module.split(".")[0] in {"router", "edge"} else None
        if file is not None and module not in known:
            known.add(module)
            waiting += _imported(file)
            yield file


def _scripts(entry: str) -> set[str]:
    texts = [file.read_text(encoding="utf-8") for file in _modules(entry)]
    return {name for text in texts for name in re.findall(r'lua\.source\("(\w+)"\)', text)}


def test_the_file_is_what_the_code_says() -> None:
    """`pushway acl > deploy/redis/users.acl` makes it anew."""
    text = (ROOT / "deploy" / "redis" / "users.acl").read_text(encoding="utf-8")
    assert text.splitlines() == list(acl_lines("push"))


def test_nobody_can_log_in_without_a_password_of_his_own() -> None:
    """The file holds none, and `default` is off."""
    lines = list(acl_lines("push"))
    assert lines[0].startswith("user default off ")
    assert not re.search(r"nopass|[ ][>#]", "\n".join(lines))


@pytest.mark.parametrize("user", list(ENTRIES), ids=lambda user: user.name)
def test_every_command_of_its_scripts_is_granted(user: RedisUser) -> None:
    """Of every script that any module names which the service loads."""
    scripts = _scripts(ENTRIES[user]) - NOT_RUN.get(user, set())
    assert scripts
    missing = {script: _called(script) - _granted(user) for script in scripts}
    assert not {script: commands for script, commands in missing.items() if commands}


def test_every_script_is_somebody_s() -> None:
    """So that none is passed over by the test above."""
    found = {script for user in (AUTH, COLLECT, DISPATCH, EDGE) for script in _scripts(ENTRIES[user])}
    assert set(lua.names()) - found <= {"retry"}
    assert _called("retry") <= _granted(ADMIN)


@pytest.mark.parametrize("script", lua.names())
def test_calls_can_be_read(script: str) -> None:
    """Each call that a script makes names its command where the test above looks."""
    body = "\n".join(line for line in lua.source(script).splitlines() if not line.lstrip().startswith("--"))
    calls = re.findall(r"redis\.p?call\(\s*(\S)", body)
    assert len([first for first in calls if first not in "'."]) == 0


def test_keys_are_those_of_the_code() -> None:
    """No grant is of a key or channel that there is not."""
    methods = [method for name, method in inspect.getmembers(Keys, inspect.isfunction) if name[0] != "_"]
    named = {method(Keys("push", 0), *["*"] * (len(inspect.signature(method).parameters) - 1)) for method in methods}
    kinds = {key.removeprefix("push:{0}:") for key in named}
    for user in USERS:
        patterns = re.findall(r"(?:~|&)push:\{\*\}:(\S+?)[\s)]", user.line("push"))
        assert patterns
        assert {re.sub(r":(collect|dispatch)$", ":*", one) for one in patterns} - {"*"} <= kinds, user.name


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_no_user_may_what_is_dangerous(user: RedisUser) -> None:
    """Neither a category nor a whole command with subcommands, nor what touches keys of others."""
    granted = _granted(user)
    assert not {command for command in granted if command in DANGEROUS.split()}
    line = user.line("push")
    assert "+@" not in line
    assert not re.search(r"[ (](~|%RW~|allkeys|allchannels|&\*)", line)
    assert re.findall(r"%[RW]~\*", line) == (["%R~*"] if user in (OPERATOR, ADMIN) else [])


def test_a_producer_may_append_and_nothing_else() -> None:
    """To the two streams that are for producers."""
    assert re.findall(r"\([^)]*\)", PRODUCER.line("push")) == ["(+xadd %W~push:{*}:in %W~push:{*}:fast)"]
